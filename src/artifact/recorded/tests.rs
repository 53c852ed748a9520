use super::*;
use crate::artifact::recorder::{read_lines, routes};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

const LINES: u64 = 100_000;

fn line(step: u64) -> String {
    // One value far above and one far below all others, and one that is none.
    let loss = match step {
        77_777 => "1000.5".to_owned(),
        33_333 => "-1000.5".to_owned(),
        50_001 => "null".to_owned(),
        _ => format!("{}", (step as f64 * 0.1).sin()),
    };
    let line = format!(
        r#"{{"event":"step","step":{step},"epoch":0.5,"loss":{loss},"task_loss":{},"consistency_loss":0.1,"learning_rate":0.001,"grad_norm":1.5,"tokens":100,"seconds":0.25}}"#,
        step % 97
    );
    line + "\n"
}

fn evaluation(step: u64, best: bool) -> String {
    let scores = format!(r#"{{"loss":0.5,"accuracy":{0},"primary":{0}}}"#, 0.5 + 1e-9 * step as f64);
    format!(
        "{{\"event\":\"eval\",\"step\":{step},\"epoch\":1.0,\"merged\":{scores},\"best\":{best},\"seconds\":1.0}}\n"
    )
}

/// A record of so many steps in a directory of its own.
fn record(steps: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut text = String::new();
    for step in 1..=steps {
        text.push_str(&line(step));
        if step % 1000 == 0 {
            text.push_str(&evaluation(step, step == 5000));
        }
    }
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn index(path: &Path) -> PathBuf {
    path.with_extension("index")
}

/// What is read where there is no index.
fn afresh(path: &Path) -> RecordedMetrics {
    let copy = path.with_file_name("copy.jsonl");
    fs::copy(path, &copy).unwrap();
    fs::remove_file(index(&copy)).ok();
    RecordedMetrics::read(&copy).unwrap()
}

/// Bit by bit: NaN is not equal to itself.
fn text(metrics: &RecordedMetrics) -> String {
    format!("{metrics:?}")
}

#[test]
fn the_thinned_record_has_the_extremes_and_both_ends_of_the_full_one() {
    let (_dir, path) = record(LINES);
    let metrics = RecordedMetrics::read(&path).unwrap();
    let buckets = metrics.curve.buckets();
    assert!(buckets.len() <= CURVE);
    assert_eq!(buckets.iter().map(|bucket| u64::from(bucket.n)).sum::<u64>(), LINES, "no step is lost");
    assert_eq!((buckets[0].min.step, buckets[buckets.len() - 1].max.step), (1, LINES));
    let around = |step: u64| buckets.iter().find(|bucket| (bucket.min.step..=bucket.max.step).contains(&step)).unwrap();
    assert_eq!((around(77_777).max.loss, around(33_333).min.loss), (1000.5, -1000.5));
    assert!(around(50_001).mean.loss.is_nan());
    let least_and_most = |values: &mut dyn Iterator<Item = f32>| {
        values.filter(|v| v.is_finite()).fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)))
    };
    let full: Vec<f32> = read_lines(&path)
        .unwrap()
        .lines
        .into_iter()
        .filter_map(|line| if let Line::Step(step) = line { Some(step.loss as f32) } else { None })
        .collect();
    let thinned = least_and_most(&mut buckets.iter().flat_map(|bucket| [bucket.min.loss, bucket.max.loss]));
    assert_eq!(thinned, least_and_most(&mut full.into_iter()));
    let tokens: u64 = buckets.iter().map(|bucket| u64::from(bucket.mean.tokens)).sum();
    assert_eq!(tokens, 100 * LINES);
    // And it is the same bits when it comes out of the index.
    assert_eq!(text(&RecordedMetrics::read(&path).unwrap()), text(&metrics));
    assert_eq!(text(&afresh(&path)), text(&metrics));
}

#[test]
fn opening_again_reads_nothing_of_the_record_but_what_was_appended() {
    let (_dir, path) = record(LINES);
    let length = fs::metadata(&path).unwrap().len();
    assert_eq!(read(&path).unwrap().bytes_read, length);
    let indexed = fs::metadata(index(&path)).unwrap().len();
    assert!(indexed < 1_000_000 && length > 10 * indexed, "{indexed} of {length}");
    assert_eq!(read(&path).unwrap().bytes_read, 0);
    let more = line(LINES + 1) + &evaluation(LINES + 1, true) + &line(LINES + 2);
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(more.as_bytes()).unwrap();
    file.write_all(b"{\"event\":\"st").unwrap();
    let mut again = read(&path).unwrap();
    assert_eq!(again.bytes_read, more.len() as u64);
    assert_eq!(text(&again.metrics), text(&afresh(&path)));
    // Its tail goes on where it ends.
    let all = fs::read_to_string(&path).unwrap();
    fs::write(&path, all.trim_end_matches("{\"event\":\"st").to_owned() + &line(LINES + 3)).unwrap();
    let news = again.tail.poll().unwrap();
    assert_eq!((news.restarted, news.lines.len()), (false, 1));
}

#[test]
fn a_damaged_index_is_not_believed_and_is_written_anew() {
    let (_dir, path) = record(LINES / 4);
    let want = text(&RecordedMetrics::read(&path).unwrap());
    let good = fs::read(index(&path)).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut later = good[..good.len() - 4].to_vec();
    later[8] += 1;
    let check = crate::artifact::recorder::crc32c(&later).to_le_bytes();
    later.extend(check);
    let bad = [
        Vec::new(),
        good[..7].to_vec(),
        good[..good.len() / 2].to_vec(),
        [&good[..], b"x"].concat(),
        flipped(0),
        flipped(20),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
        later,
    ];
    for (n, bytes) in bad.iter().enumerate() {
        fs::write(index(&path), bytes).unwrap();
        let read = read(&path).unwrap();
        assert!(read.bytes_read > 0, "damage {n} was believed");
        assert_eq!(text(&read.metrics), want, "damage {n}");
        assert_eq!(fs::read(index(&path)).unwrap(), good, "damage {n} was not mended");
    }
    // Where no index can be written, the record is read all the same.
    fs::remove_file(index(&path)).unwrap();
    fs::create_dir(index(&path)).unwrap();
    assert_eq!(text(&RecordedMetrics::read(&path).unwrap()), want);
}

#[test]
fn an_index_of_another_record_is_not_believed() {
    let (_dir, path) = record(LINES / 4);
    RecordedMetrics::read(&path).unwrap();
    let good = fs::read(index(&path)).unwrap();
    let before = fs::read_to_string(&path).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let changed = before.replacen("\"grad_norm\":1.5", "\"grad_norm\":2.5", 1);
    let in_the_middle = before.replace("\"step\":12345,", "\"step\":12346,");
    let cut = before[..before.len() / 2].to_owned() + "\n";
    let other = before.replace("\"grad_norm\":1.5", "\"grad_norm\":3.5") + &line(1);
    let later = time + std::time::Duration::from_secs(1);
    let cases = [
        ("its beginning is another, and its time is kept", &changed, time),
        ("its middle is another", &in_the_middle, later),
        ("it was cut", &cut, later),
        ("it was replaced by a longer one", &other, later),
    ];
    for (what, now, time) in cases {
        fs::write(&path, now).unwrap();
        fs::write(index(&path), &good).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let read = read(&path).unwrap();
        assert!(read.bytes_read > 0, "{what}");
        assert_eq!(text(&read.metrics), text(&afresh(&path)), "{what}");
    }
}

#[test]
fn a_short_record_has_no_index() {
    let (dir, path) = record(100);
    RecordedMetrics::read(&path).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(RecordedMetrics::read(&dir.path().join("none.jsonl")).unwrap(), RecordedMetrics::default());
}

#[test]
fn an_unpacked_capsule_stays_as_it_is() {
    let (dir, path) = record(LINES);
    fs::write(dir.path().join("capsule.json"), "{}").unwrap();
    let read = RecordedMetrics::read(&path).unwrap();
    assert!(!index(&path).exists());
    fs::remove_file(dir.path().join("capsule.json")).unwrap();
    assert_eq!(text(&RecordedMetrics::read(&path).unwrap()), text(&read));
    assert!(index(&path).exists());
}

#[test]
fn many_evaluations_are_thinned_and_the_best_stays() {
    let mut metrics = RecordedMetrics::default();
    for step in 1..=20_000 {
        metrics.add_text(evaluation(step, step == 4095).trim_end().as_bytes());
    }
    let steps: Vec<u64> = metrics.evals.iter().map(|eval| eval.step).collect();
    assert!(steps.len() <= EVALUATIONS && steps.len() > EVALUATIONS / 4, "{}", steps.len());
    assert_eq!((steps.first(), steps.last()), (Some(&1), Some(&20_000)));
    assert!(steps.contains(&4095));
    assert_eq!(metrics.progress.best, Some(0.5 + 1e-9 * 4095.0));
}

#[test]
fn routes_are_read_on_from_where_they_were_left() {
    use crate::artifact::recorder::RouteFile;
    use crate::records::{Pick, Route};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("routes.bin");
    let route = |step: u64| Route { passes: 1, sites: 1, picks: vec![Pick::One((step % 4) as u8), Pick::One(0)] };
    let mut bytes = b"ADAMIXRT\x01\0\0\0\0\0\0\0".to_vec();
    (1..=10).for_each(|step| bytes.extend(routes::encode(step, 0, &route(step))));
    fs::write(&path, &bytes).unwrap();
    let mut file = RouteFile::open(&path).unwrap();
    for step in 1..=4 {
        assert_eq!(file.next().unwrap().unwrap().step, step);
    }
    let rest: Vec<u64> =
        RouteFile::open_at(&path, file.position()).unwrap().map(|record| record.unwrap().step).collect();
    assert_eq!(rest, [5, 6, 7, 8, 9, 10]);
    // What is not whole does not count as read.
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let mut file = RouteFile::open(&path).unwrap();
    assert_eq!(file.by_ref().count(), 9);
    assert!(file.position() < bytes.len() as u64 - 3);
}
