//! "Did you mean …": near names for an unknown one.

/// The candidate closest to `wanted`, if one is close enough to be a plausible typing mistake.
///
/// Letters' case is ignored. At most a third of the letters may differ (edit distance with
/// swaps of neighbours, "optimal string alignment"); ties go to the first in alphabetical order.
pub fn did_you_mean<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (strsim::osa_distance(&wanted, &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= allowed)
        .min()
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(did_you_mean("pakages", ["events", "packages"]), Some("packages"));
        assert_eq!(did_you_mean("EVENT", ["events", "packages"]), Some("events"));
        assert_eq!(did_you_mean("zzz", ["events", "packages"]), None);
        assert_eq!(did_you_mean("", ["events"]), None);
    }
}
