//! Random appends, syncs, rotations, full disks, failed syncs, killed processes and power losses over thousands
//! of seeds: what a log hands out is a prefix of what was appended and holds all that was acknowledged.

use triune_common::{Rng as _, SeededRng};

use super::*;

/// What the log may and must hold.
#[derive(Debug)]
struct Model {
    /// All frames that were appended and not refused, in order.
    appended: Vec<(SegmentId, Vec<u8>)>,
    /// How many of them a power loss must not take.
    acknowledged: usize,
    /// The first segment that is needed.
    first: SegmentId,
    /// Whether files are grown ahead now and then.
    reserves: bool,
}

#[derive(Debug, Default)]
struct Tally {
    replays: usize,
    power_losses: usize,
    lost: usize,
    refused: usize,
    poisoned: usize,
}

fn random_faults(fs: &SimFs, rng: &SeededRng, reserves: bool) -> Faults {
    let mut faults =
        Faults { short_reads: rng.one_in(2), reserves: reserves && fs.steps() % 2 == 1, ..Faults::default() };
    if rng.one_in(2) {
        faults.crash_at = Some(fs.steps() + 1 + rng.below(40));
    }
    if rng.one_in(4) {
        faults.capacity = Some(1000 + rng.below(12_000));
    }
    if rng.one_in(6) {
        faults.fail_sync = Some(fs.syncs() + 1 + rng.below(10));
    }
    if rng.one_in(6) {
        faults.fail_append = Some(fs.appends() + 1 + rng.below(10));
    }
    faults
}

fn random_payload(rng: &SeededRng) -> Vec<u8> {
    let len = if rng.one_in(8) { rng.below(3000) } else { rng.below(100) };
    let mut payload = vec![0; len as usize];
    rng.fill(&mut payload);
    payload
}

/// Opens the log, through more crashes if need be, and checks what it hands out.
fn reopen(mut fs: SimFs, model: &mut Model, rng: &SeededRng, mut power_lost: bool) -> (SimFs, Wal) {
    let (wal, found) = loop {
        let open = Wal::create(arc(&fs), dir(), model.first);
        match open.and_then(|(wal, replay)| Ok((wal, replay.collect::<Result<Vec<_>>>()?))) {
            Ok(open) => break open,
            Err(_) if fs.crashed() => {
                fs = fs.restart();
                power_lost = true;
                if rng.one_in(2) {
                    fs.set_faults(random_faults(&fs, rng, model.reserves));
                }
            }
            Err(e) => {
                let faults = fs.faults();
                assert!(
                    faults
                        != Faults {
                            short_reads: faults.short_reads,
                            reserves: faults.reserves,
                            ..Faults::default()
                        },
                    "cannot be opened without a fault: {e}"
                );
                assert_ne!(e.kind(), ErrorKind::Data, "{e}");
                fs = fs.kill();
                fs.set_faults(Faults::default());
            }
        }
    };
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "positions ascend");
    let found: Vec<_> = found.into_iter().map(|(p, payload)| (p.segment, payload)).collect();
    assert!(found.len() >= model.acknowledged, "{} of {} acknowledged", found.len(), model.acknowledged);
    assert!(found.len() <= model.appended.len());
    assert!(found == model.appended[..found.len()], "a prefix of what was appended");
    if !power_lost {
        assert_eq!(found.len(), model.appended.len(), "a killed process loses nothing that was written");
    }
    model.appended = found;
    model.acknowledged = model.appended.len();
    (fs, wal)
}

/// A process on the log until it ends; whether the log is still fit for use then.
fn live(fs: &SimFs, wal: &mut Wal, model: &mut Model, rng: &SeededRng, tally: &mut Tally) -> bool {
    for _ in 0..rng.below(30) {
        let result = match rng.below(10) {
            0..=4 => {
                let batch: Vec<Vec<u8>> = (0..=rng.below(3)).map(|_| random_payload(rng)).collect();
                let slices: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
                let segment = wal.segment();
                let result = wal.append(&slices);
                if !matches!(result, Err(WalError::RolledBack(_))) {
                    model.appended.extend(batch.into_iter().map(|payload| (segment, payload)));
                }
                if matches!(result, Err(WalError::RolledBack(_))) {
                    // The roll-back synced what was there.
                    model.acknowledged = model.appended.len();
                }
                result
            }
            5..=7 => wal.sync().inspect(|()| model.acknowledged = model.appended.len()),
            8 => {
                let before = wal.segment();
                wal.rotate().map(|next| {
                    assert_eq!(next, before.next());
                    model.acknowledged = model.appended.len();
                })
            }
            _ => {
                let first = SegmentId(model.first.0 + rng.below(1 + wal.segment().0 - model.first.0));
                model.first = first;
                let gone = model.appended.iter().filter(|(s, _)| *s < first).count();
                model.appended.drain(..gone);
                model.acknowledged = model.acknowledged.saturating_sub(gone);
                let _ = wal.remove_before(first);
                Ok(())
            }
        };
        match result {
            Ok(()) => {}
            Err(WalError::RolledBack(_)) => {
                tally.refused += 1;
                if rng.one_in(2) {
                    fs.set_faults(Faults { capacity: None, ..fs.faults() });
                }
            }
            Err(WalError::Poisoned(_)) => {
                tally.poisoned += 1;
                return false;
            }
        }
        if fs.crashed() {
            return false;
        }
    }
    true
}

fn run(seed: u64, reserves: bool, tally: &mut Tally) {
    let rng = SeededRng::new(seed ^ 0x5EED);
    let mut fs = SimFs::new(seed);
    let mut model = Model { appended: vec![], acknowledged: 0, first: SegmentId::FIRST, reserves };
    let mut power_lost = false;
    for _ in 0..=rng.below(4) {
        if rng.one_in(3) && !fs.crashed() {
            fs.set_faults(random_faults(&fs, &rng, reserves));
        }
        let before = model.appended.len();
        let (now, mut wal) = reopen(fs, &mut model, &rng, power_lost);
        tally.replays += 1;
        tally.lost += before - model.appended.len();
        fs = now;
        if rng.one_in(2) {
            fs.set_faults(random_faults(&fs, &rng, reserves));
        }
        let fit = live(&fs, &mut wal, &mut model, &rng, tally);
        // After a failed write nobody says how much of the last batch is in the file.
        power_lost = !fit || fs.crashed() || rng.one_in(2);
        if fs.crashed() || (power_lost && rng.one_in(2)) {
            fs = fs.restart();
            tally.power_losses += 1;
        } else {
            power_lost = !fit;
            fs = fs.kill();
            fs.set_faults(Faults::default());
        }
    }
    reopen(fs, &mut model, &rng, power_lost);
}

#[test]
fn what_is_acknowledged_survives_and_what_is_read_was_appended() {
    let mut tally = Tally::default();
    // The last one: a cut that a failed sync lost, found among 400,000 seeds of logs that take no room ahead.
    for seed in (0..4000).chain([37_430]) {
        let run = std::panic::AssertUnwindSafe(|| run(seed, seed < 4000, &mut tally));
        if let Err(e) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(e);
        }
    }
    // The runs met what they are about.
    assert!(tally.power_losses > 1000 && tally.lost > 1000, "{tally:?}");
    assert!(tally.refused > 100 && tally.poisoned > 300, "{tally:?}");
}
