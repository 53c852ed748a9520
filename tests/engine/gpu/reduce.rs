use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::Format;
use adamix::gpu::kernels::reduce::{Columns, column_scratch, column_sums, total, total_scratch};

#[test]
fn sums_of_columns() {
    let Some(device) = device() else { return };
    let device = &*device;
    for [n, d] in [[0, 3], [1, 1], [1, 2], [7, 4], [3000, 2], [900, 3], [130, 70], [300, 64], [40, 1030], [9, 5000]] {
        for format in formats(device) {
            let x = random(n as u64, n * d, 1.0);
            let on = Array::floats(device, &x, format);
            let (out, scratch) = (
                Array::unwritten(device, d + 1, Format::F32),
                Array::unwritten(device, column_scratch(n, d), Format::F32),
            );
            let sums = Some(out.operand.part(0, d));
            let columns = Columns {
                x: on.operand,
                factor: None,
                row_factor: None,
                products: None,
                sums,
                scratch: scratch.operand,
                n,
                d,
            };
            run(device, column_sums(columns));
            let (x, got) = (stored(&x, format), out.read(device));
            let want: Vec<f64> = (0..d).map(|c| (0..n).map(|row| x[row * d + c]).sum()).collect();
            assert_close("column", &got[..d], &want, Format::F32, 2e-6);
            assert_eq!(got[d], -7777.0, "what is behind the sums");
        }
    }
}

#[test]
fn long_sums_take_two_stages() {
    assert_eq!(column_scratch(1, 768), 0);
    assert!(column_scratch(4096, 768) > 768);
    assert_eq!(column_scratch(65_536, 50_000) / 50_000, 3, "wide matrices need few chunks");
    assert_eq!((total_scratch(100), total_scratch(1 << 24)), (0, 1024));
}

#[test]
fn a_sum_over_everything_and_a_mean() {
    let Some(device) = device() else { return };
    for n in [0, 1, 255, 1025, 100_000] {
        for format in formats(&*device) {
            let x: Vec<f32> = random(n as u64, n, 1.0).into_iter().map(|v| v + 0.3).collect();
            let on = Array::floats(&*device, &x, format);
            let (out, scratch) =
                (Array::unwritten(&*device, 1, Format::F32), Array::unwritten(&*device, total_scratch(n), Format::F32));
            for factor in [1.0, 1.0 / n.max(1) as f32] {
                run(&*device, total(on.operand, out.operand, scratch.operand, factor));
                let want = f64::from(factor) * stored(&x, format).iter().sum::<f64>();
                assert_close("total", &out.read(&*device), &[want], Format::F32, 1e-6);
            }
        }
    }
}
