use super::*;
use crate::figure::drawing::Shape;
use crate::figure::layout::layout;

fn loss() -> Lines {
    let points: Vec<[f64; 2]> = (1..=50).map(|step| [f64::from(step), 1.0 / f64::from(step)]).collect();
    let band = points.iter().map(|&[x, y]| [x, 0.5 * y, 2.0 * y]).collect();
    Lines {
        x: Axis { name: "step".to_owned(), ..Axis::default() },
        y: Axis { name: "loss (nats)".to_owned(), ..Axis::default() },
        curves: vec![
            Curve { name: "loss".to_owned(), color: SERIES[0], points, band, ..Curve::default() },
            Curve {
                name: "evaluation".to_owned(),
                color: SERIES[1],
                points: vec![[25.0, 0.5]],
                dots: true,
                ..Curve::default()
            },
        ],
        marks: vec![Mark { x: 30.0, name: "resumed here".to_owned(), color: SERIES[7] }],
    }
}

fn texts(figure: &Figure) -> Vec<String> {
    let shapes = layout(figure).shapes.into_iter();
    shapes.filter_map(|shape| if let Shape::Text { text, .. } = shape { Some(text) } else { None }).collect()
}

/// Every tag is closed, in order; returns how often each occurs.
fn elements(svg: &str) -> std::collections::BTreeMap<String, usize> {
    let (mut open, mut found) = (Vec::new(), std::collections::BTreeMap::new());
    for tag in svg.split('<').skip(1).map(|part| part.split('>').next().expect("a tag ends")) {
        let name: String = tag.chars().take_while(|c| !c.is_whitespace()).collect();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
        } else if !tag.starts_with('?') {
            *found.entry(name.trim_end_matches('/').to_owned()).or_default() += 1;
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "{open:?} is not closed");
    found
}

#[test]
fn a_plot_has_its_curves_band_dots_mark_names_and_axes() {
    let figure = Figure::new("Loss", Content::Lines(loss()));
    let svg = svg::document(&figure);
    let found = elements(&svg);
    assert_eq!((found["svg"], found["polygon"], found["circle"]), (1, 1, 1), "{found:?}");
    let texts = texts(&figure);
    for words in ["Loss", "loss", "evaluation", "step", "loss (nats)", "resumed here", "50", "0"] {
        assert!(texts.iter().any(|text| text == words), "{words} is missing: {texts:?}");
    }
    assert!(svg.contains("#0072b2") && svg.contains("#d55e00"));
}

#[test]
fn everything_lies_on_the_picture() {
    for log in [false, true] {
        let mut lines = loss();
        (lines.x.log, lines.y.log) = (log, log);
        lines.curves[0].points.extend([[51.0, f64::NAN], [52.0, -1.0], [53.0, f64::INFINITY]]);
        let drawing = layout(&Figure::new(
            "A title that is so long that it needs more than one line, as long titles do when they say everything twice",
            Content::Lines(lines),
        ));
        for shape in &drawing.shapes {
            let points = match shape {
                Shape::Line { points, .. } | Shape::Area { points, .. } => points.clone(),
                Shape::Disc { at, .. } | Shape::Text { at, .. } => vec![*at],
            };
            for [x, y] in points {
                assert!(
                    (0.0..=drawing.width).contains(&x) && (0.0..=drawing.height).contains(&y),
                    "{x}, {y}: {shape:?}"
                );
            }
        }
    }
}

#[test]
fn a_logarithmic_axis_is_a_straight_line_for_an_exponential() {
    let points = (0..=4).map(|i| [f64::from(i), 10f64.powi(-i)]).collect();
    let curve = Curve { name: "p".to_owned(), points, ..Curve::default() };
    let y = Axis { log: true, ..Axis::default() };
    let drawing = layout(&Figure::new("", Content::Lines(Lines { y, curves: vec![curve], ..Lines::default() })));
    let drawn = drawing.shapes.iter().find_map(|shape| match shape {
        Shape::Line { points, .. } if points.len() == 5 => Some(points.clone()),
        _ => None,
    });
    let drawn = drawn.expect("the curve");
    let falls: Vec<f64> = drawn.windows(2).map(|w| w[1][1] - w[0][1]).collect();
    assert!(falls.iter().all(|fall| (fall - falls[0]).abs() < 1e-6), "{falls:?}");
}

#[test]
fn texts_cannot_leave_their_place() {
    let evil = "</text><script>alert('1')</script>\" onload=\"x & y\u{1}";
    let mut lines = loss();
    (lines.curves[0].name, lines.x.name, lines.marks[0].name) = (evil.to_owned(), evil.to_owned(), evil.to_owned());
    let svg = svg::document(&Figure::new(evil, Content::Lines(lines)));
    let found = elements(&svg);
    assert!(!found.contains_key("script") && !svg.contains("onload=\"x") && !svg.contains('\u{1}'), "{found:?}");
    assert!(svg.contains("&lt;script&gt;"));
}

#[test]
fn nothing_is_lost_in_csv() {
    let values = [0.1 + 0.2, 1.0 / 3.0, 1e-300, 6.02e23, f64::MIN_POSITIVE, -0.0, 123456789.125];
    let mut table = Table::new(["step", "value"]);
    for (i, value) in values.into_iter().enumerate() {
        table.push([i.into(), value.into()]);
    }
    let csv = table.csv();
    let read: Vec<f64> = csv.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(read.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values.map(f64::to_bits));
    assert_eq!(Cell::from(0.1f32).exact(), "0.1", "a float of 32 bits has no digits of 64");
}

#[test]
fn csv_quotes_and_disarms() {
    let mut table = Table::new(["a,b", "text"]);
    table.push(["say \"no\"".into(), "two\nlines".into()]);
    table.push(["=HYPERLINK(\"x\")".into(), "-0.5".into()]);
    table.push([Cell::Empty]);
    assert_eq!(table.csv(), "\"a,b\",text\n\"say \"\"no\"\"\",\"two\nlines\"\n\"'=HYPERLINK(\"\"x\"\")\",-0.5\n,\n");
    assert_eq!(table.tsv().lines().nth(1), Some("say \"no\"\ttwo lines"));
}

#[test]
fn the_table_of_a_plot_has_a_row_for_each_x() {
    let table = Figure::new("", Content::Lines(loss())).table();
    assert_eq!(table.columns, ["step", "loss", "loss, lower", "loss, upper", "evaluation"]);
    assert_eq!(table.rows.len(), 50);
    assert_eq!(table.rows[24], [25.0.into(), 0.04.into(), 0.02.into(), 0.08.into(), 0.5.into()]);
    assert_eq!(table.rows[0][4], Cell::Empty);
}

#[test]
fn the_other_kinds_are_drawn_too() {
    let score = |name: &str, value| Score { name: name.to_owned(), value, error: Some(0.01), ..Score::default() };
    let mut random = score("Random routes", 0.7);
    (random.band, random.singles) = (Some([0.6, 0.8]), vec![0.6, 0.7, 0.8]);
    let entries = vec![score("Merged", 0.75), random, score("Broken", f64::NAN)];
    let scores = Scores {
        axis: Axis { name: "accuracy".to_owned(), ..Axis::default() },
        entries,
        reference: Some((0.5, "baseline".to_owned())),
    };
    let cells = Cells {
        rows: vec!["layer 0".to_owned(), "layer 1".to_owned()],
        columns: vec!["0".to_owned(), "1".to_owned()],
        cells: vec![vec![(1.0, [255; 3]), (2.0, [0; 3])]; 2],
        keys: vec![("white".to_owned(), [255; 3]), ("black".to_owned(), [0; 3])],
    };
    let columns = Columns {
        groups: vec!["a".to_owned(), "b".to_owned()],
        series: vec![("ms".to_owned(), SERIES[0], vec![1.0, 3.0]), ("s".to_owned(), SERIES[1], vec![2.0, 0.0])],
        ..Columns::default()
    };
    let mut table = Table::new(["name", "value"]);
    table.push(["x".into(), 0.5.into()]);
    let all = [Content::Scores(scores), Content::Cells(cells), Content::Columns(columns), Content::Table(table)];
    for (content, least) in all.into_iter().zip([8, 8, 4, 4]) {
        let figure = Figure::new("Title", content);
        assert!(layout(&figure).shapes.len() >= least);
        elements(&svg::element(&figure));
        assert!(!figure.table().rows.is_empty());
    }
}

#[cfg(feature = "gui")]
#[test]
fn a_png_has_twice_the_size_a_white_ground_and_the_curve() {
    let figure = Figure::new("Loss", Content::Lines(loss()));
    let drawing = layout(&figure);
    let bytes = png::bytes(&figure).unwrap();
    let mut reader = ::png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let (width, height) = (reader.info().width, reader.info().height);
    assert_eq!([width, height], [drawing.width, drawing.height].map(|side| (2.0 * side).ceil() as u32));
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert_eq!(pixels[..3], [255; 3], "the corner");
    assert!(pixels.chunks_exact(3).any(|pixel| pixel == SERIES[0]), "the curve in its colour");
    let dark = pixels.chunks_exact(3).take((width * 60) as usize).filter(|p| p.iter().all(|c| *c < 120)).count();
    assert!(dark > 100, "the title");
}

#[test]
fn an_axis_ends_where_its_values_end() {
    let scale = |limits| {
        let axis = Axis { limits, ..Axis::default() };
        super::lines::Scale::new(&axis, [0.0, 1.0].into_iter(), [0.0, 100.0], 0.05)
    };
    let (free, share) = (scale(None), scale(Some([0.0, 1.0])));
    assert!(free.at(1.04).is_some() && share.at(1.04).is_none(), "there is no accuracy of 1.04");
    assert!(share.at(1.01).is_some() && share.at(-0.01).is_some(), "a curve on the limit is not cut");
    assert!(scale(Some([-1.0, 1.0])).at(-0.04).is_some());
}

#[test]
fn a_map_has_its_cells_lines_marks_bar_and_values() {
    let axis = |name: &str| Axis { name: name.to_owned(), range: Some([0.0, 2.0]), ..Axis::default() };
    let line = MapLine { points: vec![[0.0, 0.0], [2.0, 2.0]], color: SERIES[0], strong: true, dashed: false };
    let map = Map {
        x: axis("along"),
        y: axis("across"),
        equal: true,
        columns: vec![0.5, 1.5],
        rows: vec![1.5, 0.5],
        cells: vec![vec![(1.0, SERIES[0]), (2.0, SERIES[1])], vec![(3.0, SERIES[2]), (f64::NAN, SERIES[3])]],
        lines: vec![line],
        marks: vec![("merged".to_owned(), [1.0, 1.0], SERIES[4])],
        bar: ColorBar { name: "loss in nats".to_owned(), range: [1.0, 3.0], colors: vec![SERIES[0], SERIES[2]] },
        ..Map::default()
    };
    let figure = Figure::new("Plane", Content::Map(map.clone()));
    assert_eq!(figure.table().csv(), "across \\ along,0.5,1.5\n1.5,1,2\n0.5,3,NaN\n");
    let texts = texts(&figure);
    for words in ["Plane", "along", "across", "merged", "loss in nats", "1.00", "3.00"] {
        assert!(texts.iter().any(|text| text == words), "{words} is missing: {texts:?}");
    }
    let areas = |figure: &Figure, color: Color| {
        let shapes = layout(figure).shapes.into_iter();
        shapes.filter(|shape| matches!(shape, Shape::Area { color: own, .. } if *own == color)).count()
    };
    assert_eq!(areas(&figure, SERIES[3]), 0, "what is no number has no colour");
    assert_eq!((areas(&figure, SERIES[1]), areas(&figure, SERIES[2])), (1, 2), "a cell, and a cell with the bar");
    // The first row is at the top, and with `downwards` the axis is turned, not the cells.
    let top = |figure: &Figure, color: Color| {
        let found = layout(figure).shapes.into_iter().find_map(|shape| match shape {
            Shape::Area { points, color: own, .. } if own == color => Some(points[0][1]),
            _ => None,
        });
        found.unwrap()
    };
    assert!(top(&figure, SERIES[1]) < top(&figure, SERIES[2]));
    elements(&svg::document(&Figure::new("Plane", Content::Map(Map { downwards: true, ..map }))));
}
