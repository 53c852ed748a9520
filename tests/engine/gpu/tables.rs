use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::kernels::tables::{Lookup, Places, gather, scatter_add, scatter_add_unique};
use adamix::gpu::{Backend, Format};

const ROWS: usize = 41;
const SHAPES: [[usize; 2]; 7] = [[0, 8], [1, 1], [5, 3], [70, 32], [9, 70], [3, 1030], [4, 2048]];

fn ids(seed: u64, n: usize, rows: usize) -> Vec<u32> {
    random(seed, n, 1.0).into_iter().map(|v| ((v + 1.0) * 0.5 * rows as f32) as u32 % rows as u32).collect()
}

fn each(test: impl Fn(&dyn Backend, [Format; 2], [usize; 2])) {
    let Some(device) = device() else { return };
    let all = formats(&*device);
    for (i, shape) in SHAPES.into_iter().enumerate() {
        for j in 0..all.len() {
            test(&*device, [all[j], all[(i + j) % all.len()]], shape);
        }
    }
}

/// The device's limit, and one that makes several parts of a table.
fn limits(device: &dyn Backend, d: usize, format: Format) -> [u64; 2] {
    [device.facts().max_binding, 256 + 13 * d as u64 * format.bytes()]
}

#[test]
fn rows_of_one_table_and_of_three() {
    each(|device, [w, y], [n, d]| {
        let tables = [ROWS, 17, 2].map(|rows| random(rows as u64, rows * d, 1.0));
        let numbers = [(ROWS, 1), (17, 2), (2, 3)].map(|(rows, seed)| ids(seed, n, rows));
        let on = tables.each_ref().map(|table| Array::floats(device, table, w));
        let on_ids = numbers.each_ref().map(|ids| Array::words(device, ids));
        let lookups = [0, 1, 2].map(|i| Lookup { table: on[i].operand, ids: on_ids[i].operand });
        for count in 1..=3 {
            for limit in limits(device, d, w) {
                let out = Array::unwritten(device, n * d + 1, y);
                let launches = gather(lookups[0], &lookups[1..count], out.operand.part(0, n * d), d, limit);
                assert!(limit > 1 << 20 || launches.len() >= 4, "a table in parts");
                run(device, launches);
                let mut want = vec![0.0; n * d];
                for (table, ids) in tables.iter().zip(&numbers).take(count) {
                    let table = stored(table, w);
                    want.iter_mut().enumerate().for_each(|(i, v)| *v += table[ids[i / d] as usize * d + i % d]);
                }
                let got = out.read(device);
                assert_close("rows", &got[..n * d], &want, y, 1e-6);
                assert!(got[n * d] < -7000.0, "what is behind the rows");
            }
        }
    });
}

#[test]
fn numbers_that_a_table_does_not_have_leave_rows_as_they_are() {
    let Some(device) = device() else { return };
    let (table, ids) = (Array::floats(&*device, &[1.0; 12], Format::F32), Array::words(&*device, &[3, 2, u32::MAX]));
    let out = Array::floats(&*device, &[5.0; 12], Format::F32);
    let lookup = Lookup { table: table.operand, ids: ids.operand };
    run(&*device, gather(lookup, &[], out.operand, 4, 1 << 20));
    let want: Vec<f32> = [[5.0; 4], [1.0; 4], [5.0; 4]].concat();
    assert_eq!(out.read(&*device), want);
}

#[test]
fn rows_are_added_where_they_belong() {
    each(|device, [w, y], [n, d]| {
        let (x, start) = (random(5, n * d, 1.0), random(6, ROWS * d, 1.0));
        let numbers = ids(7, n, ROWS);
        let places = Places::of(&numbers);
        let xs = Array::floats(device, &x, w);
        let on_places = Array::words(device, &places.words);
        let x = stored(&x, w);
        let wanted = |numbers: &[u32]| {
            let mut want = stored(&start, y);
            for (i, x) in x.iter().enumerate().take(numbers.len() * d) {
                want[numbers[i / d] as usize * d + i % d] += x;
            }
            want
        };
        // Numbers that come once: as many rows as there are at most, backwards.
        let once: Vec<u32> = (0..n.min(ROWS) as u32).map(|i| ROWS as u32 - 1 - i).collect();
        let on_once = Array::words(device, &once);
        for limit in limits(device, d, y) {
            let out = Array::floats(device, &start, y);
            run(device, scatter_add(xs.operand, (on_places.operand, places.distinct), out.operand, d, limit));
            assert_close("repeated", &out.read(device), &wanted(&numbers), y, 2e-6);
            let out = Array::floats(device, &start, y);
            let some = xs.operand.part(0, once.len() * d);
            run(device, scatter_add_unique(some, on_once.operand, out.operand, d, limit));
            assert_close("unique", &out.read(device), &wanted(&once), y, 1e-6);
        }
    });
}

#[test]
fn places_keep_the_order_of_rows() {
    let places = Places::of(&[7, 2, 7, 7, 0]);
    assert_eq!(
        places,
        Places {
            words: [[0, 0, 1], [2, 1, 1], [7, 2, 3]].concat().into_iter().chain([4, 1, 0, 2, 3]).collect(),
            distinct: 3
        }
    );
    assert_eq!(Places::of(&[]), Places { words: Vec::new(), distinct: 0 });
}
