use super::super::elementwise::value;
use super::super::support::{Array, assert_close, device, formats, run};
use super::{Routes, Window, routes, sum, values};
use adamix::gpu::kernels::experts::{Adapter, Drawn, Runs, Side, Values};
use adamix::gpu::{Address, Backend, Format, Operand};

/// Every expert, the last one first, with room for `len` values and `gap` values between two. -> the experts and what they need
pub fn drawn(experts: usize, first: usize, len: usize, gap: usize) -> (Vec<Drawn>, usize) {
    let one = |i: usize| Drawn { expert: experts - 1 - i, first: first + i * (len + gap) };
    ((0..experts).map(one).collect(), first + experts * (len + gap))
}

/// `Σ a[row][i] b[row][j]` over the rows of an expert. a `[n, wide]`, b `[n, narrow]` -> `[wide, narrow]`
pub fn product(routes: &Routes, expert: usize, a: (&[f64], usize), b: (&[f64], usize)) -> Vec<f64> {
    let rows: Vec<usize> = (0..routes.of.len()).filter(|&row| routes.of[row] == expert).collect();
    let one = |i: usize, j: usize| rows.iter().map(|&row| a.0[row * a.1 + i] * b.0[row * b.1 + j]).sum();
    (0..a.1 * b.1).map(|at| one(at / b.1, at % b.1)).collect()
}

/// An adapter whose gradients are computed; they need no weights.
fn adapter(n: usize, d: usize, r: usize, act: u32) -> Adapter {
    let nothing = Operand::new(Address::new(0, 0), 0, Format::F32);
    let runs = Runs { operand: nothing, count: 0 };
    Adapter {
        n,
        d,
        r,
        act,
        down: nothing,
        down_bias: nothing,
        up: nothing,
        up_bias: nothing,
        down_runs: runs,
        up_runs: runs,
    }
}

/// One case: rows, width, bottleneck, experts, nonlinearity, runs (1, 2 or 3 for many), values between two experts' gradients.
fn check(device: &dyn Backend, format: Format, case: (usize, usize, usize, usize, u32, usize, usize)) {
    let (n, d, r, experts, act, many, gap) = case;
    let (down_routes, up_routes) =
        (routes(11, n, experts, many), routes(12, n, experts, if many == 2 { 3 } else { many }));
    let ((h_on, h), (dout_on, dout)) = (values(device, 13, n * d, 1.0, format), values(device, 14, n * d, 1.0, format));
    let ((z_on, z), (dz_on, dz)) =
        (values(device, 15, n * r, 2.0, Format::F32), values(device, 16, n * r, 1.0, Format::F32));
    let (down, middle) = drawn(experts, 0, r * d + r, gap);
    let (up, len) = drawn(experts, middle, r * d + d, gap);
    let adapter = adapter(n, d, r, act);
    let table =
        adapter.tables(Side { runs: &down_routes.runs, drawn: &down }, Side { runs: &up_routes.runs, drawn: &up });
    let table = Array::words(device, &table);
    let out = Window::new(device, len, Format::F32);
    let given = Values {
        x: h_on.operand,
        dy: dout_on.operand,
        z: z_on.operand,
        dz: dz_on.operand,
        table: table.operand,
        out: out.operand(),
    };
    run(device, [adapter.gradients(given, [experts, experts])]);
    let got = out.read(device);
    let a: Vec<f64> = z.iter().map(|&z| value(act, z)).collect();
    let ones = vec![1.0; n];
    let mut written = vec![false; len];
    let mut close = |what: &str, first: usize, want: &[f64]| {
        assert_close(&format!("{what} of {case:?}"), &got[first..first + want.len()], want, Format::F32, 1e-5);
        written[first..first + want.len()].fill(true);
    };
    for one in &down {
        close("dW_D", one.first, &product(&down_routes, one.expert, (&dz, r), (&h, d)));
        close("db_D", one.first + r * d, &product(&down_routes, one.expert, (&ones, 1), (&dz, r)));
    }
    for one in &up {
        close("dW_U", one.first, &product(&up_routes, one.expert, (&dout, d), (&a, r)));
        close("db_U", one.first + r * d, &product(&up_routes, one.expert, (&ones, 1), (&dout, d)));
    }
    let untouched = got.iter().zip(&written).all(|(&v, &written)| written || v == -7777.0);
    assert!(untouched, "values between two experts were written in {case:?}");
}

#[test]
fn the_gradients_of_adapters() {
    let Some(device) = device() else { return };
    let cases = [
        (0, 32, 16, 2, 2, 1, 0),
        (1, 5, 1, 1, 4, 1, 3),
        (7, 32, 16, 3, 2, 1, 4),
        (33, 70, 4, 3, 1, 2, 1),
        (70, 130, 33, 3, 2, 2, 0),
        (300, 132, 16, 3, 3, 3, 0),
        (70, 32, 80, 2, 0, 3, 0),
        (20, 1600, 64, 3, 2, 2, 0),
        (20, 780, 16, 3, 2, 2, 0),
    ];
    for (i, case) in cases.into_iter().enumerate() {
        formats(&*device)
            .into_iter()
            .filter(|&f| f == Format::F32 || i % 2 == 1)
            .for_each(|f| check(&*device, f, case));
    }
}

#[test]
fn gradients_of_one_side_only() {
    let Some(device) = device() else { return };
    let (n, d, r) = (9, 12, 4);
    let routes = routes(1, n, 1, 1);
    let ((h_on, h), (dz_on, dz)) =
        (values(&*device, 2, n * d, 1.0, Format::F32), values(&*device, 3, n * r, 1.0, Format::F32));
    let adapter = adapter(n, d, r, 2);
    let (down, len) = drawn(1, 0, r * d + r, 0);
    let table = adapter.tables(Side { runs: &routes.runs, drawn: &down }, Side { runs: &[], drawn: &[] });
    let (table, out) = (Array::words(&*device, &table), Window::new(&*device, len, Format::F32));
    let [x, dz_at] = [h_on.operand, dz_on.operand];
    let given = Values { x, dy: x, z: dz_at, dz: dz_at, table: table.operand, out: out.operand() };
    run(&*device, [adapter.gradients(given, [1, 0])]);
    let mut want = product(&routes, 0, (&dz, r), (&h, d));
    want.extend((0..r).map(|j| sum(n, |row| dz[row * r + j])));
    assert_close("the down side's", &out.read(&*device), &want, Format::F32, 1e-5);
    assert!(adapter.gradients(given, [0, 0]).is_empty());
}
