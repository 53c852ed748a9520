//! Products by expert, in both directions, and their weights' gradients.

use super::host::{Memory, run};
use super::{FORMATS, close, random, values, wide};
use adamix::nn::kernels::cuda::plan::{Routed, SEGMENTS, Segment, Window};
use adamix::tensor::{DType, Device, Tensor};

/// Rows of each segment, in order.
fn rows(segment: &Segment, list: &[u32]) -> Vec<usize> {
    let at = |i: usize| if segment.listed { list[i] as usize } else { i };
    (segment.start..segment.start + segment.len).map(at).collect()
}

/// `base + x Wᵀ + b` row by row in f64.
fn naive(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    base: Option<&Tensor>,
    segments: &[Segment],
    list: &[u32],
) -> Vec<f64> {
    let (n, width) = x.dims2().unwrap();
    let out_width = w.dims()[1];
    let (x, w) = (values(x), values(w));
    let (b, mut out) = (b.map(values), base.map_or_else(|| vec![0.0; n * out_width], values));
    for segment in segments {
        for row in rows(segment, list) {
            for o in 0..out_width {
                let weight = &w[(segment.expert * out_width + o) * width..][..width];
                let product: f64 = x[row * width..][..width].iter().zip(weight).map(|(x, w)| x * w).sum();
                out[row * out_width + o] += product + b.as_ref().map_or(0.0, |b| b[segment.expert * out_width + o]);
            }
        }
    }
    out
}

/// Consecutive thirds, or every row to its own expert by list, or more experts than one launch takes.
fn routes(n: usize, experts: usize) -> Vec<(Vec<Segment>, Vec<u32>)> {
    let third = n / 3;
    let range = |expert, start, end| Segment { expert, start, len: end - start, listed: false };
    let consecutive = vec![range(experts - 1, 0, third), range(0, third, 2 * third), range(1 % experts, 2 * third, n)];
    let (mut listed, mut list) = (Vec::new(), Vec::new());
    for expert in 0..experts {
        let mine: Vec<u32> = (0..n as u32).filter(|&r| (r as usize * 5 + 1) % experts == expert).collect();
        listed.push(Segment { expert, start: list.len(), len: mine.len(), listed: true });
        list.extend(mine);
    }
    vec![(consecutive, Vec::new()), (listed, list)]
}

#[test]
fn products() {
    let shapes = [(0, 8, 4, 2), (1, 5, 3, 1), (70, 33, 16, 4), (50, 16, 70, 3), (45, 7, 130, 20)];
    for (fx, tx, _) in FORMATS {
        for (fy, ty, error) in FORMATS {
            for (n, width, out_width, experts) in shapes {
                let x = random((n, width), 1, tx);
                let forward = random((experts, out_width, width), 2, DType::F32);
                let backward = forward.transpose(1, 2).unwrap().contiguous().unwrap();
                let bias = random((experts, out_width), 3, DType::F32);
                let base = random((n, out_width), 4, ty);
                for (transposed, with_bias, with_base) in
                    [(false, true, true), (false, true, false), (true, false, true), (true, false, false)]
                {
                    for (segments, list) in routes(n, experts) {
                        let stored = if transposed { &backward } else { &forward };
                        let [mut mx, mut mw, mut mb, mut mbase] = [&x, stored, &bias, &base].map(Memory::of);
                        let mut mlist = Memory::of(&Tensor::from_slice(&list, list.len(), &Device::Cpu).unwrap());
                        let mut out = Memory::empty(n * out_width, ty);
                        let shape = Routed {
                            formats: [fx, fy],
                            x: mx.address(),
                            weight: mw.address(),
                            bias: if with_bias { mb.address() } else { 0 },
                            base: if with_base { mbase.address() } else { 0 },
                            out: out.address(),
                            list: mlist.address(),
                            out_bias: 0,
                            width,
                            out_width,
                            transposed,
                            window: None,
                        };
                        for some in segments.chunks(SEGMENTS) {
                            run(&shape.product(some));
                        }
                        let (b, base) = (with_bias.then_some(&bias), with_base.then_some(&base));
                        let want = naive(&x, &forward, b, base, &segments, &list);
                        let want = Tensor::from_vec(want, (n, out_width), &Device::Cpu).unwrap();
                        close("routed product", &out.tensor((n, out_width)), &want, 1.1 * error, 2e-6);
                    }
                }
            }
        }
    }
}

#[test]
fn weight_gradients() {
    for (fx, tx, _) in FORMATS {
        for (fy, ty, _) in FORMATS {
            for (n, width, out_width) in [(0, 3, 2), (1, 1, 1), (70, 33, 16), (600, 16, 70), (300, 90, 70)] {
                let (x, dy) = (random((n, width), 5, tx), random((n, out_width), 6, ty));
                for listed in [false, true] {
                    let list: Vec<u32> = (0..n as u32).step_by(2).collect();
                    let segment = if listed {
                        Segment { expert: 0, start: 0, len: list.len(), listed }
                    } else {
                        Segment { expert: 3, start: n / 5, len: n - n / 5, listed }
                    };
                    let index: Vec<u32> = rows(&segment, &list).iter().map(|&r| r as u32).collect();
                    let pick = |t: &Tensor| {
                        let index = Tensor::from_slice(&index, index.len(), &Device::Cpu).unwrap();
                        wide(&t.to_dtype(DType::F32).unwrap().index_select(&index, 0).unwrap())
                    };
                    let zero = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
                    let (want, want_bias) = if index.is_empty() {
                        (zero(&[out_width, width]), zero(&[out_width]))
                    } else {
                        (pick(&dy).t().unwrap().matmul(&pick(&x)).unwrap(), pick(&dy).sum(0).unwrap())
                    };
                    let chunks = Routed::chunks(segment.len);
                    let [mut mx, mut mdy] = [&x, &dy].map(Memory::of);
                    let mut mlist = Memory::of(&Tensor::from_slice(&list, list.len(), &Device::Cpu).unwrap());
                    let mut parts = Memory::empty(chunks * out_width * width, DType::F32);
                    let mut bias_parts = Memory::empty(chunks * out_width, DType::F32);
                    let shape = Routed {
                        formats: [fx, fy],
                        x: mx.address(),
                        base: mdy.address(),
                        out: parts.address(),
                        out_bias: bias_parts.address(),
                        list: mlist.address(),
                        width,
                        out_width,
                        ..Routed::default()
                    };
                    run(&shape.weight_grad(segment));
                    let mut sum = Memory::empty(out_width * width, DType::F32);
                    let mut bias_sum = Memory::empty(out_width, DType::F32);
                    run(&shape.sum_parts(parts.address(), sum.address(), chunks, out_width * width));
                    run(&shape.sum_parts(bias_parts.address(), bias_sum.address(), chunks, out_width));
                    close("dW", &sum.tensor((out_width, width)), &want, 1e-6, 2e-6);
                    close("db", &bias_sum.tensor(out_width), &want_bias, 1e-6, 2e-6);
                }
            }
        }
    }
}

/// LoRA's B inside a wider layer: columns of z times rows of B, added to columns of y, and both gradients.
#[test]
fn blocks_of_wider_matrices() {
    const SCALE: f32 = 0.5;
    for (format, dtype, error) in FORMATS {
        for (n, rank, z_row, z_first, y_row, y_first, rows, row, width) in
            [(40, 3, 6, 3, 50, 20, 30, 10, 17), (1, 1, 1, 0, 1, 0, 1, 0, 1), (300, 8, 16, 8, 90, 10, 70, 0, 70)]
        {
            let experts = 3;
            let (z, y) = (random((n, z_row), 1, DType::F32), random((n, y_row), 2, dtype));
            let b = random((experts, rows, rank), 3, DType::F32);
            for (segments, list) in routes(n, experts) {
                let [mut mz, mut my, mut mb] = [&z, &y, &b].map(Memory::of);
                let mut mlist = Memory::of(&Tensor::from_slice(&list, list.len(), &Device::Cpu).unwrap());
                let size = dtype.size_in_bytes() as u64;
                let (z_at, y_at) = (mz.address() + 4 * z_first as u64, my.address() + size * y_first as u64);
                let b_at = mb.address() + 4 * (row * rank) as u64;
                let expert = rows * rank;
                let forward = Routed {
                    formats: [0, format],
                    x: z_at,
                    weight: b_at,
                    base: y_at,
                    out: y_at,
                    list: mlist.address(),
                    width: rank,
                    out_width: width,
                    window: Some(Window { x_row: z_row, out_row: y_row, expert, scale: SCALE }),
                    ..Routed::default()
                };
                some_by_some(&forward, &segments);
                // One expert's block of B as a matrix.
                let part = |e: usize| wide(&b.get(e).unwrap().narrow(0, row, width).unwrap().contiguous().unwrap());
                let (zs, mut want) = (wide(&z).narrow(1, z_first, rank).unwrap(), wide(&y));
                let mut dz = vec![0.0; n * z_row];
                let dy = wide(&y).narrow(1, y_first, width).unwrap();
                for segment in &segments {
                    for r in self::rows(segment, &list) {
                        let line = |t: &Tensor| t.narrow(0, r, 1).unwrap().contiguous().unwrap();
                        let one = line(&zs).matmul(&part(segment.expert).t().unwrap().contiguous().unwrap()).unwrap();
                        let one = (one * f64::from(SCALE)).unwrap();
                        let one = one.pad_with_zeros(1, y_first, y_row - y_first - width).unwrap();
                        let one = one.pad_with_zeros(0, r, n - r - 1).unwrap();
                        want = (want + one).unwrap();
                        let back = (line(&dy).matmul(&part(segment.expert)).unwrap() * f64::from(SCALE)).unwrap();
                        dz[r * z_row + z_first..][..rank].copy_from_slice(&values(&back));
                    }
                }
                close("block", &my.tensor((n, y_row)), &want, 1.1 * error, 2e-6);

                let (mut mdy, mut mdz) =
                    (Memory::of(&y), Memory::of(&Tensor::zeros((n, z_row), DType::F32, &Device::Cpu).unwrap()));
                let back = Routed {
                    formats: [format, 0],
                    x: mdy.address() + size * y_first as u64,
                    base: 0,
                    out: mdz.address() + 4 * z_first as u64,
                    width,
                    out_width: rank,
                    transposed: true,
                    window: Some(Window { x_row: y_row, out_row: z_row, expert, scale: SCALE }),
                    ..forward
                };
                some_by_some(&back, &segments);
                let want = Tensor::from_vec(dz, (n, z_row), &Device::Cpu).unwrap();
                close("block back", &mdz.tensor((n, z_row)), &want, 1e-6, 2e-6);

                for segment in &segments {
                    let chunks = Routed::chunks(segment.len);
                    let mut parts = Memory::empty(chunks * width * rank, DType::F32);
                    let grad = Routed {
                        formats: [0, format],
                        x: mz.address() + 4 * z_first as u64,
                        base: mdy.address() + size * y_first as u64,
                        out: parts.address(),
                        list: mlist.address(),
                        width: rank,
                        out_width: width,
                        window: Some(Window { x_row: z_row, out_row: y_row, expert: 0, scale: SCALE }),
                        ..Routed::default()
                    };
                    run(&grad.weight_grad(*segment));
                    let mut sum = Memory::empty(width * rank, DType::F32);
                    run(&grad.sum_parts(parts.address(), sum.address(), chunks, width * rank));
                    let index: Vec<u32> = self::rows(segment, &list).iter().map(|&r| r as u32).collect();
                    if index.is_empty() {
                        continue;
                    }
                    let pick = |t: &Tensor| {
                        let index = Tensor::from_slice(&index, index.len(), &Device::Cpu).unwrap();
                        t.contiguous().unwrap().index_select(&index, 0).unwrap()
                    };
                    let want = pick(&dy).t().unwrap().contiguous().unwrap().matmul(&pick(&zs)).unwrap();
                    let want = (want * f64::from(SCALE)).unwrap();
                    close("block's gradient", &sum.tensor((width, rank)), &want, 1e-6, 2e-6);
                }
            }
        }
    }
}

fn some_by_some(shape: &Routed, segments: &[Segment]) {
    for some in segments.chunks(SEGMENTS) {
        run(&shape.product(some));
    }
}
