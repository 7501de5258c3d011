//! Download events of ninety days: many rows, the same for the same seed, with something to find in them.
//!
//! ```text
//! weight of a slot (15 minutes)
//!   = every country's share × its time of day × its day of the week × the outage
//!   + a topic that everybody reads about (the viral hours)
//!   + a broken build farm that fetches one package again and again
//!
//! events of a slot = its share of N, so that the slots add up to exactly N
//! ```
//!
//! Slots are made one after the other and written as they come, sorted by time; what is held in memory is one
//! row group. Every file covers one week, so that a condition on time skips files, and within them row groups.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use datafusion::common::DataFusionError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_common::{Error, Result};

/// The events' days; the last one is 2026-10-31.
const DAYS: i64 = 90;
/// 2026-11-01 00:00 UTC, in seconds: the first instant without events.
pub(crate) const END_SECONDS: i64 = 1_793_491_200;
const START_SECONDS: i64 = END_SECONDS - DAYS * 86_400;
const SLOT_SECONDS: i64 = 900;
const SLOTS_PER_FILE: i64 = 7 * 86_400 / SLOT_SECONDS;
const ROWS_PER_GROUP: usize = 64 * 1024;
/// How fast downloads fall with rank.
const ZIPF_EXPONENT: f64 = 0.85;

/// A country, its share of the downloads, and how far its clocks are from UTC, in hours.
const COUNTRIES: [(&str, f64, i64); 16] = [
    ("US", 30.0, -6),
    ("DE", 9.0, 1),
    ("IN", 9.0, 5),
    ("CN", 8.0, 8),
    ("GB", 6.0, 0),
    ("FR", 5.0, 1),
    ("JP", 5.0, 9),
    ("BR", 4.0, -3),
    ("CA", 4.0, -5),
    ("NL", 4.0, 1),
    ("KR", 3.0, 9),
    ("AU", 3.0, 10),
    ("IE", 3.0, 0),
    ("PL", 3.0, 1),
    ("SE", 2.0, 1),
    ("ZA", 2.0, 2),
];
/// How far away the servers are, in milliseconds.
const DISTANCE_MS: [f64; 16] =
    [22., 31., 95., 110., 27., 29., 74., 88., 25., 24., 79., 121., 30., 38., 35., 131.];
const INSTALLERS: [(&str, u64); 6] =
    [("pip", 62), ("uv", 84), ("poetry", 91), ("conda", 94), ("mirror", 97), ("curl", 100)];
/// Downloads by the hour of the local day, 0 to 23.
const HOURS: [f64; 24] = [
    0.35, 0.28, 0.24, 0.22, 0.22, 0.25, 0.34, 0.50, 0.75, 1.00, 1.12, 1.15, 1.02, 1.05, 1.15, 1.14, 1.06,
    0.96, 0.84, 0.74, 0.68, 0.62, 0.54, 0.44,
];
const WEEKEND: f64 = 0.55;

/// Servers answer badly: 2026-10-29 from 13:00, five hours.
const OUTAGE: (i64, i64) = (END_SECONDS - 59 * 3_600, END_SECONDS - 54 * 3_600);
const OUTAGE_SHARE: f64 = 0.10;
/// A topic goes around: 2026-10-27 from 15:00, ten hours, fading.
const VIRAL: (i64, i64) = (END_SECONDS - 105 * 3_600, END_SECONDS - 95 * 3_600);
/// A build farm fetches one package over and over: 2026-09-16 from 02:00, three hours.
const FARM: (i64, i64) = (END_SECONDS - 1_102 * 3_600, END_SECONDS - 1_099 * 3_600);
const FARM_COUNTRY: usize = 12;
const FARM_INSTALLER: usize = 5;
/// A cable breaks: Australia is slow from 2026-08-24 for two days.
const CABLE: (i64, i64) = (END_SECONDS - 69 * 86_400, END_SECONDS - 67 * 86_400);
const CABLE_COUNTRY: usize = 11;

/// A package as the generator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    pub(crate) id: i64,
    /// Of the most downloaded ones.
    pub(crate) rank: Option<i32>,
    /// Belongs to the topic that goes around.
    pub(crate) is_viral: bool,
}

/// The events' columns.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("event_id", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("package_id", DataType::Int64, false),
        Field::new("country", DataType::Utf8, false),
        Field::new("installer", DataType::Utf8, false),
        Field::new("bytes", DataType::Int64, false),
        Field::new("latency_ms", DataType::Float32, false),
    ]))
}

/// Writes `events` events as Parquet files into `folder`, which exists, and returns the files.
///
/// *Errors*: the folder cannot be written to. *Cost*: about a microsecond per event; blocks.
pub(crate) fn write_events(
    folder: &Path,
    packages: &[Package],
    events: u64,
    seed: u64,
) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut writer: Option<EventFile> = None;
    let mut batch = Batch::new();
    Generator::new(packages, seed).run(events, seed, &mut |step| {
        match step {
            Step::Slot(slot) if (slot - START_SECONDS) / SLOT_SECONDS % SLOTS_PER_FILE == 0 => {
                if let Some(file) = writer.take() {
                    files.push(file.finish(&mut batch)?);
                }
                writer = Some(EventFile::create(folder, slot)?);
            }
            Step::Slot(_) => {}
            Step::Event(event) => {
                batch.push(&event);
                if let Some(file) = writer.as_mut().filter(|_| batch.rows() == ROWS_PER_GROUP) {
                    file.write(&mut batch)?;
                }
            }
        }
        Ok(())
    })?;
    if let Some(file) = writer {
        files.push(file.finish(&mut batch)?);
    }
    Ok(files)
}

/// What the generator does next.
enum Step {
    /// The events that follow are of the slot that begins here.
    Slot(i64),
    Event(Event),
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Event {
    id: i64,
    micros: i64,
    package: i64,
    country: usize,
    installer: usize,
    bytes: i64,
    latency_ms: f32,
}

/// Everything that does not change from event to event.
#[derive(Debug)]
struct Generator {
    ids: Vec<i64>,
    /// Of `ids`, by popularity.
    popular: Cumulative,
    viral_ids: Vec<i64>,
    viral: Cumulative,
    farm_package: i64,
}

impl Generator {
    /// Packages without a rank follow the ranked ones in a shuffled order.
    fn new(packages: &[Package], seed: u64) -> Self {
        let mut order: Vec<&Package> = packages.iter().collect();
        order.sort_by_key(|p| (p.rank.is_none(), p.rank, mix(p.id.cast_unsigned() ^ seed), p.id));
        let ids: Vec<i64> = order.iter().map(|p| p.id).collect();
        let zipf = |place: usize| ((place + 1) as f64).powf(-ZIPF_EXPONENT);
        let popular = Cumulative::new((0..ids.len()).map(zipf));
        let viral_ids: Vec<i64> = order.iter().filter(|p| p.is_viral).map(|p| p.id).collect();
        // Everybody looks at the same few.
        let viral = Cumulative::new((0..viral_ids.len()).map(|i| 1.0 / (i + 1) as f64));
        let farm_package = ids.get(ids.len() / 20).copied().unwrap_or_default();
        Self { ids, popular, viral_ids, viral, farm_package }
    }

    /// Makes `events` events in the order of time, told step by step.
    fn run(&self, events: u64, seed: u64, take: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
        let slots = || (START_SECONDS..END_SECONDS).step_by(SLOT_SECONDS as usize);
        let weights: Vec<f64> = slots().map(|s| self.weight(s)).collect();
        let total: f64 = weights.iter().sum();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut passed, mut made) = (0.0, 0);
        for (slot, weight) in slots().zip(weights) {
            take(Step::Slot(slot))?;
            passed += weight;
            // Cut off by the running total: the parts add up to the whole.
            let until = ((passed / total * events as f64).round() as u64).min(events);
            self.fill(slot, made..until, &mut rng, take)?;
            made = until;
        }
        Ok(())
    }

    /// What a country downloads in a slot, and of all countries the sum.
    fn countries(slot: i64) -> Cumulative {
        Cumulative::new(COUNTRIES.iter().map(|(_, share, hours)| {
            let Some(local) = DateTime::from_timestamp(slot + hours * 3_600, 0) else { return 0.0 };
            let here = HOURS[local.hour() as usize];
            let next = HOURS[(local.hour() as usize + 1) % 24];
            let day = here + (next - here) * f64::from(local.minute()) / 60.0;
            let week = if local.weekday().number_from_monday() > 5 { WEEKEND } else { 1.0 };
            // Continuous integration knows neither night nor weekend.
            share * (0.85 * day * week + 0.15)
        }))
    }

    fn parts(&self, slot: i64) -> (f64, f64, f64) {
        let growth = 1.0 + 0.15 * (slot - START_SECONDS) as f64 / (END_SECONDS - START_SECONDS) as f64;
        let outage = if within(slot, OUTAGE) { OUTAGE_SHARE } else { 1.0 };
        let base = Self::countries(slot).total() * growth * outage;
        let viral = if within(slot, VIRAL) && !self.viral_ids.is_empty() {
            let faded = (slot - VIRAL.0) as f64 / (VIRAL.1 - VIRAL.0) as f64;
            18.0 * (1.0 - faded)
        } else {
            0.0
        };
        let farm = if within(slot, FARM) && !self.ids.is_empty() { 90.0 } else { 0.0 };
        (base, viral, farm)
    }

    fn weight(&self, slot: i64) -> f64 {
        let (base, viral, farm) = self.parts(slot);
        base + viral + farm
    }

    /// The events of a slot in the order of time; `ids` are theirs.
    fn fill(
        &self,
        slot: i64,
        ids: std::ops::Range<u64>,
        rng: &mut ChaCha8Rng,
        take: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let (base, viral, farm) = self.parts(slot);
        let kinds = Cumulative::new([base, viral, farm]);
        let countries = Self::countries(slot);
        let span = (SLOT_SECONDS * 1_000_000).cast_unsigned();
        let mut times: Vec<i64> =
            ids.clone().map(|_| slot * 1_000_000 + (rng.next_u64() % span).cast_signed()).collect();
        times.sort_unstable();
        for (id, micros) in ids.zip(times) {
            let (choice, place, rest) = (rng.next_u64(), rng.next_u64(), rng.next_u64());
            let mut event = Event {
                id: id.cast_signed() + 1,
                micros,
                package: 0,
                country: countries.pick(unit(choice)),
                installer: INSTALLERS.iter().position(|(_, upto)| rest % 100 < *upto).unwrap_or(0),
                bytes: 0,
                latency_ms: 0.0,
            };
            match kinds.pick(unit(rest)) {
                1 => event.package = self.viral_ids[self.viral.pick(unit(place))],
                2 => {
                    event.package = self.farm_package;
                    event.country = FARM_COUNTRY;
                    event.installer = FARM_INSTALLER;
                }
                _ => event.package = self.ids[self.popular.pick(unit(place))],
            }
            event.bytes = bytes(event.package, rest);
            event.latency_ms = latency(slot, &event, rng.next_u64());
            take(Step::Event(event))?;
        }
        Ok(())
    }
}

/// Cumulative weights.
#[derive(Debug)]
struct Cumulative(Vec<f64>);

impl Cumulative {
    fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        Self(
            weights
                .into_iter()
                .map(|w| {
                    sum += w;
                    sum
                })
                .collect(),
        )
    }

    fn total(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }

    /// The place whose stretch holds `share` of the whole.
    fn pick(&self, share: f64) -> usize {
        let at = share * self.total();
        self.0.partition_point(|c| *c <= at).min(self.0.len().saturating_sub(1))
    }
}

fn within(slot: i64, (from, until): (i64, i64)) -> bool {
    from <= slot && slot < until
}

/// A number from 0 to below 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Spreads an id over all bits (the finisher of SplitMix64).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// About normally distributed, with mean 0 and deviation 1: the sum of eight bytes.
fn normal(bits: u64) -> f64 {
    let sum: u32 = bits.to_le_bytes().iter().map(|b| u32::from(*b)).sum();
    (f64::from(sum) - 1_020.0) / 209.0
}

/// Packages differ from 4 kB to some 20 MB; their files differ a little.
fn bytes(package: i64, bits: u64) -> i64 {
    let typical = 60_000.0 * (1.4 * normal(mix(package.cast_unsigned()))).exp();
    (typical * (0.9 + 0.2 * unit(bits.rotate_left(32)))) as i64
}

/// By distance and size, with a long tail; worse in the outage and where the cable broke.
fn latency(slot: i64, event: &Event, bits: u64) -> f32 {
    let transfer = event.bytes as f64 / 400_000.0;
    let mut ms = (DISTANCE_MS[event.country] + transfer) * (0.45 * normal(bits)).exp();
    if within(slot, OUTAGE) {
        ms *= 7.0;
    }
    if within(slot, CABLE) && event.country == CABLE_COUNTRY {
        ms *= 3.5;
    }
    ((ms * 10.0).round() / 10.0) as f32
}

/// Rows on their way to a row group.
#[derive(Debug)]
struct Batch {
    schema: SchemaRef,
    ids: Int64Builder,
    times: TimestampMicrosecondBuilder,
    packages: Int64Builder,
    countries: StringBuilder,
    installers: StringBuilder,
    bytes: Int64Builder,
    latencies: Float32Builder,
    rows: usize,
}

impl Batch {
    fn new() -> Self {
        Self {
            schema: schema(),
            ids: Int64Builder::new(),
            times: TimestampMicrosecondBuilder::new(),
            packages: Int64Builder::new(),
            countries: StringBuilder::new(),
            installers: StringBuilder::new(),
            bytes: Int64Builder::new(),
            latencies: Float32Builder::new(),
            rows: 0,
        }
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn push(&mut self, event: &Event) {
        self.ids.append_value(event.id);
        self.times.append_value(event.micros);
        self.packages.append_value(event.package);
        self.countries.append_value(COUNTRIES[event.country].0);
        self.installers.append_value(INSTALLERS[event.installer].0);
        self.bytes.append_value(event.bytes);
        self.latencies.append_value(event.latency_ms);
        self.rows += 1;
    }

    fn take(&mut self) -> Result<RecordBatch> {
        self.rows = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.times.finish()),
            Arc::new(self.packages.finish()),
            Arc::new(self.countries.finish()),
            Arc::new(self.installers.finish()),
            Arc::new(self.bytes.finish()),
            Arc::new(self.latencies.finish()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// One week's file.
struct EventFile {
    path: PathBuf,
    writer: ArrowWriter<BufWriter<File>>,
}

impl EventFile {
    fn create(folder: &Path, first_slot: i64) -> Result<Self> {
        let day = DateTime::from_timestamp(first_slot, 0).map_or(NaiveDate::MIN, |t| t.date_naive());
        let path = folder.join(format!("{day}.parquet"));
        let file = File::create(&path).map_err(|e| Error::from(DataFusionError::IoError(e)))?;
        let level = ZstdLevel::try_new(3).map_err(|e| Error::from(DataFusionError::from(e)))?;
        let by_time = SortingColumn { column_idx: 1, descending: false, nulls_first: false };
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
            .set_sorting_columns(Some(vec![by_time]))
            .build();
        let writer = ArrowWriter::try_new(BufWriter::new(file), schema(), Some(properties))
            .map_err(|e| Error::from(DataFusionError::from(e)))?;
        Ok(Self { path, writer })
    }

    fn write(&mut self, batch: &mut Batch) -> Result<()> {
        self.writer.write(&batch.take()?).map_err(|e| Error::from(DataFusionError::from(e)))
    }

    /// Writes what is left of the week and returns the file's path.
    fn finish(mut self, batch: &mut Batch) -> Result<PathBuf> {
        if batch.rows() > 0 {
            self.write(batch)?;
        }
        self.writer.close().map_err(|e| Error::from(DataFusionError::from(e)))?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn packages() -> Vec<Package> {
        (0..500)
            .map(|i| Package { id: i * 3, rank: (i < 50).then_some(i as i32 + 1), is_viral: i % 40 == 7 })
            .collect()
    }

    fn events(n: u64, seed: u64) -> Vec<Event> {
        let mut out = Vec::new();
        Generator::new(&packages(), seed)
            .run(n, seed, &mut |step| {
                if let Step::Event(event) = step {
                    out.push(event);
                }
                Ok(())
            })
            .unwrap();
        out
    }

    #[test]
    fn exactly_as_many_as_asked_for_sorted_and_the_same_again() {
        let first = events(10_000, 1);
        assert_eq!(first.len(), 10_000);
        assert!(first.is_sorted_by_key(|e| e.micros));
        assert!(first.iter().zip(1..).all(|(e, id)| e.id == id));
        assert!(first[0].micros >= START_SECONDS * 1_000_000);
        assert!(first[9_999].micros < END_SECONDS * 1_000_000);
        assert_eq!(first, events(10_000, 1));
        assert_ne!(first, events(10_000, 2));
    }

    #[test]
    fn the_end_is_the_day_that_it_says() {
        let end = DateTime::from_timestamp(END_SECONDS, 0).unwrap();
        assert_eq!(end.to_string(), "2026-11-01 00:00:00 UTC");
        let hour = |s: i64| DateTime::from_timestamp(s, 0).unwrap().format("%m-%d %H").to_string();
        assert_eq!((hour(OUTAGE.0).as_str(), hour(VIRAL.0).as_str()), ("10-29 13", "10-27 15"));
        assert_eq!((hour(FARM.0).as_str(), hour(CABLE.0).as_str()), ("09-16 02", "08-24 00"));
    }

    #[test]
    fn popularity_seasons_and_anomalies_are_there() {
        let events = events(200_000, 1);
        let mut by_package: HashMap<i64, u64> = HashMap::new();
        let mut by_weekday = [0.0; 7];
        for e in &events {
            *by_package.entry(e.package).or_default() += 1;
            let day = DateTime::from_timestamp_micros(e.micros).unwrap().weekday();
            by_weekday[day.num_days_from_monday() as usize] += 1.0;
        }
        // Zipf: the first package has about 2^0.85 times as many as the second.
        let share = by_package[&0] as f64 / by_package[&3] as f64;
        assert!((1.5..2.1).contains(&share), "{share}");
        assert!(by_weekday[6] < 0.8 * by_weekday[2], "{by_weekday:?}");
        let rate = |(from, until): (i64, i64)| {
            let n = events.iter().filter(|e| within(e.micros / 1_000_000, (from, until))).count();
            n as f64 / ((until - from) as f64 / 3_600.0)
        };
        let day_before = |(from, until): (i64, i64)| (from - 86_400, until - 86_400);
        assert!(rate(OUTAGE) < 0.2 * rate(day_before(OUTAGE)));
        assert!(rate(FARM) > 1.5 * rate(day_before(FARM)));
        let viral =
            events.iter().filter(|e| within(e.micros / 1_000_000, VIRAL) && e.package % 120 == 21).count();
        let usual = events
            .iter()
            .filter(|e| within(e.micros / 1_000_000, day_before(VIRAL)) && e.package % 120 == 21)
            .count();
        assert!(viral > 4 * usual, "{viral} {usual}");
    }

    #[test]
    fn files_of_weeks() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_events(folder.path(), &packages(), 5_000, 3).unwrap();
        assert_eq!(files.len(), 13);
        assert!(files[0].ends_with("2026-08-03.parquet"), "{}", files[0].display());
        let rows: usize = files
            .iter()
            .map(|f| {
                let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
                    File::open(f).unwrap(),
                );
                reader.unwrap().build().unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>()
            })
            .sum();
        assert_eq!(rows, 5_000);
        // No events at all are files without rows.
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(write_events(empty.path(), &packages(), 0, 3).unwrap().len(), 13);
    }
}
