//! The line of a training step, read quickly: nearly all lines of a record are such.

use crate::records::StepRecord;

/// Reads a line exactly as this program writes it; `None`: something else, for the general reader.
pub(super) fn parse(line: &[u8]) -> Option<StepRecord> {
    let mut rest = line.strip_prefix(br#"{"event":"step""#)?;
    let mut next = |name: &str| number(&mut rest, name);
    let float = |text: &str| if text == "null" { Some(f64::NAN) } else { text.parse().ok() };
    let record = StepRecord {
        step: next("step")?.parse().ok()?,
        epoch: float(next("epoch")?)?,
        loss: float(next("loss")?)?,
        task_loss: float(next("task_loss")?)?,
        consistency_loss: float(next("consistency_loss")?)?,
        learning_rate: float(next("learning_rate")?)?,
        grad_norm: float(next("grad_norm")?)?,
        tokens: next("tokens")?.parse().ok()?,
        seconds: float(next("seconds")?)?,
        routes: Vec::new(),
    };
    (rest == b"}").then_some(record)
}

/// Takes `,"name":` and a number or `null` off the front.
fn number<'a>(rest: &mut &'a [u8], name: &str) -> Option<&'a str> {
    let after = rest.strip_prefix(b",\"")?.strip_prefix(name.as_bytes())?.strip_prefix(b"\":")?;
    let end = after.iter().position(|&byte| byte == b',' || byte == b'}')?;
    let (text, after) = after.split_at(end);
    *rest = after;
    // What else Rust takes for a number, such as `inf` and `+1`, is none in JSON.
    let plain = |text: &[u8]| {
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        digits.first().is_some_and(u8::is_ascii_digit) && digits.last().is_some_and(u8::is_ascii_digit)
    };
    if text == b"null" || plain(text) { std::str::from_utf8(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::recorder::Line;

    #[test]
    fn what_is_written_is_read_as_the_general_reader_reads_it() {
        for (step, value) in [(1, 0.1), (u64::MAX, -1.5e-300), (77, 1e300), (5, 0.0), (6, f64::NAN), (7, f64::INFINITY)]
        {
            let record = StepRecord {
                step,
                epoch: value,
                loss: value,
                task_loss: 0.3,
                consistency_loss: 1.0 / 3.0,
                learning_rate: value,
                grad_norm: value,
                tokens: 1500,
                seconds: value,
                routes: Vec::new(),
            };
            let line = Line::Step(record).to_json().unwrap();
            let Line::Step(general) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
            let quick = parse(line.as_bytes()).unwrap_or_else(|| panic!("not read: {line}"));
            assert_eq!(format!("{quick:?}"), format!("{general:?}"), "{line}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_general_reader() {
        let line = |seconds: &str, more: &str| {
            format!(
                r#"{{"event":"step","step":1,"epoch":0.1,"loss":1,"task_loss":1,"consistency_loss":1,"learning_rate":1,"grad_norm":1,"tokens":5,"seconds":{seconds}{more}}}"#
            )
        };
        assert!(parse(line("0.5", "").as_bytes()).is_some());
        for odd in ["inf", "NaN", "+1", "1.", ".5", "\"1\"", "[1]", "", "tru"] {
            assert!(parse(line(odd, "").as_bytes()).is_none(), "{odd}");
        }
        assert!(parse(line("0.5", r#","later":1"#).as_bytes()).is_none());
        assert!(parse(br#"{"event":"eval","step":1}"#).is_none());
        assert!(parse(b"").is_none());
    }
}
