use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::Format;
use adamix::gpu::kernels::copy::{Operation, binary, strided};

/// Sizes, steps in the source, steps in the destination, and where the destination starts.
type Layout = ([usize; 4], [usize; 4], [usize; 4], usize);

const LAYOUTS: [Layout; 13] = [
    // Contiguous, of lengths that divide by four or not; nothing; one value.
    ([1, 1, 1, 1030], [0, 0, 0, 1], [0, 0, 0, 1], 3),
    ([1, 2, 32, 8], [0, 256, 8, 1], [0, 256, 8, 1], 4),
    ([3, 0, 2, 5], [10, 10, 5, 1], [10, 10, 5, 1], 0),
    ([1, 1, 1, 1], [0; 4], [0; 4], 1),
    // Columns of a matrix, and a matrix into columns.
    ([1, 1, 7, 6], [0, 0, 10, 1], [0, 0, 6, 1], 0),
    ([1, 1, 9, 64], [0, 0, 64, 1], [0, 0, 192, 1], 64),
    ([1, 4, 9, 8], [0, 8, 32, 1], [0, 72, 8, 1], 0),
    // Transposed: large, small, several, and with heads in the middle.
    ([1, 1, 70, 33], [0, 0, 1, 70], [0, 0, 33, 1], 0),
    ([1, 1, 3, 5], [0, 0, 1, 3], [0, 0, 5, 1], 0),
    ([2, 3, 40, 9], [1080, 360, 1, 40], [1080, 360, 9, 1], 2),
    ([2, 33, 3, 40], [3960, 1, 1320, 33], [3960, 120, 40, 1], 0),
    // Repeated rows, and four dimensions that cannot be joined.
    ([1, 1, 5, 70], [0, 0, 0, 1], [0, 0, 70, 1], 0),
    ([3, 4, 5, 7], [1, 3, 84, 12], [200, 48, 9, 1], 5),
];

#[test]
fn copies_between_layouts_and_formats() {
    let Some(device) = device() else { return };
    let all = formats(&*device);
    for (number, (dims, from, to, start)) in LAYOUTS.into_iter().enumerate() {
        let last = |steps: [usize; 4]| {
            dims.iter().zip(steps).map(|(&size, step)| size.saturating_sub(1) * step).sum::<usize>()
        };
        let (read, written) = (last(from) + 1, last(to) + 1);
        for (i, &format) in all.iter().enumerate() {
            let target = all[(i + number) % all.len()];
            let values = random(number as u64, read, 1.0);
            let x = Array::floats(&*device, &values, format);
            let y = Array::unwritten(&*device, start + written + 5, target);
            run(&*device, [strided(x.operand, y.operand.part(start, written), dims, from, to)]);
            let untouched = f64::from(Array::unwritten(&*device, 1, target).read(&*device)[0]);
            let mut want = vec![untouched; start + written + 5];
            let values = stored(&values, format);
            for place in 0..dims.iter().product() {
                let (mut left, mut source, mut sink) = (place, 0, start);
                for axis in (0..4).rev() {
                    let at = left % dims[axis];
                    left /= dims[axis];
                    (source, sink) = (source + at * from[axis], sink + at * to[axis]);
                }
                want[sink] = values[source];
            }
            let want: Vec<f32> = want.into_iter().map(|v| v as f32).collect();
            let want = stored(&want, target);
            let got = y.read(&*device);
            assert!(
                got.iter().zip(&want).all(|(&a, &b)| f64::from(a) == b),
                "layout {number}, {format:?} to {target:?}"
            );
        }
    }
}

#[test]
fn whole_numbers_stay_exact() {
    let Some(device) = device() else { return };
    let values: Vec<u32> = (0..600).map(|i| if i % 2 == 0 { i } else { u32::MAX - i }).collect();
    let (x, y) = (Array::words(&*device, &values), Array::words(&*device, &[0; 600]));
    run(&*device, [strided(x.operand, y.operand, [1, 1, 20, 30], [0, 0, 30, 1], [0, 0, 1, 20])]);
    let bytes = device.download(&[(y.operand.address, y.operand.bytes())]).unwrap().remove(0);
    let got: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
    assert!((0..600).all(|i| got[i] == values[i % 20 * 30 + i / 20]), "transposed");
}

#[test]
fn sums_differences_and_products() {
    let Some(device) = device() else { return };
    let all = formats(&*device);
    for n in [0, 1, 7, 64, 1030] {
        for (i, operation) in [Operation::Add, Operation::Subtract, Operation::Multiply].into_iter().enumerate() {
            let format = |place: usize| all[(i + place) % all.len()];
            let (x, z) = (random(1, n, 1.0), random(2, n, 1.0));
            let (xs, zs) = (Array::floats(&*device, &x, format(0)), Array::floats(&*device, &z, format(1)));
            let y = Array::unwritten(&*device, n, format(n % 2));
            run(&*device, [binary(operation, xs.operand, zs.operand, y.operand)]);
            let value = |(a, b): (f64, f64)| match operation {
                Operation::Add => a + b,
                Operation::Subtract => a - b,
                Operation::Multiply => a * b,
            };
            let want: Vec<f64> = stored(&x, format(0)).into_iter().zip(stored(&z, format(1))).map(value).collect();
            assert_close("binary", &y.read(&*device), &want, format(n % 2), 1e-6);
            // Over one of the operands, as a gradient is added to another.
            run(&*device, [binary(operation, xs.operand, zs.operand, xs.operand)]);
            assert_close("in place", &xs.read(&*device), &want, format(0), 1e-6);
        }
    }
    let y = Array::unwritten(&*device, 8, Format::F32);
    assert_eq!(binary(Operation::Add, y.operand, y.operand, y.operand).source.name, "copy4");
}
