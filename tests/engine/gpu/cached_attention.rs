use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::kernels::cached_attention::CachedAttention;
use adamix::gpu::{Backend, Format};

/// Heads, key heads, width of a head, rows of the pool; of each sequence how many rows it has and how many of its tokens,
/// the last ones, are new.
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rows: usize,
    sequences: Vec<[usize; 2]>,
}

impl Case {
    fn check(&self, device: &dyn Backend, format: Format) {
        let &Self { heads, kv_heads, head_dim: hd, rows, .. } = self;
        let (width, kv) = (heads * hd, kv_heads * hd);
        // Sequences share the pool's rows in a scattered order; new tokens have rows of their own.
        let (mut tokens, mut list, mut next) = (Vec::new(), Vec::new(), rows as u32);
        for &[length, new] in &self.sequences {
            let start = list.len() as u32;
            list.extend((0..(length - new) as u32).map(|i| (i * 37 + 5) % (rows as u32 / 2)));
            for i in 0..new {
                next -= 1;
                list.push(next);
                tokens.push([start, (length - new + i + 1) as u32, next]);
            }
        }
        let n = tokens.len();
        let words: Vec<u32> = tokens.iter().flatten().chain(&list).copied().collect();
        let (qkv, pool) = (random(1, n * (width + 2 * kv), 1.5), random(2, rows * 2 * kv, 1.5));
        let [on, pool_on] = [&qkv, &pool].map(|values| Array::floats(device, values, format));
        let words = Array::words(device, &words);
        let attention = CachedAttention {
            qkv: on.operand,
            pool: pool_on.operand,
            words: words.operand,
            tokens: n,
            longest: tokens.iter().map(|token| token[1] as usize).max().unwrap_or(0),
            heads,
            kv_heads,
            head_dim: hd,
        };
        run(device, [attention.store()]);
        let (qkv, mut pool) = (stored(&qkv, format), stored(&pool, format));
        for (i, token) in tokens.iter().enumerate() {
            let both = &qkv[i * (width + 2 * kv) + width..][..2 * kv];
            pool[token[2] as usize * 2 * kv..][..2 * kv].copy_from_slice(both);
        }
        let what = format!("{heads} heads of {hd} for {n} tokens");
        assert_close(&format!("pool, {what}"), &pool_on.read(device), &pool, format, 1e-7);
        let mut want = vec![0.0; n * width];
        for (i, &[start, seen, _]) in tokens.iter().enumerate() {
            for head in 0..heads {
                let q = &qkv[i * (width + 2 * kv) + head * hd..][..hd];
                let col = head / (heads / kv_heads) * hd;
                let seen: Vec<usize> =
                    list[start as usize..][..seen as usize].iter().map(|&row| row as usize).collect();
                let dot = |row: usize| q.iter().zip(&pool[row * 2 * kv + col..]).map(|(a, b)| a * b).sum::<f64>();
                let scores: Vec<f64> = seen.iter().map(|&row| dot(row) / (hd as f64).sqrt()).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                for (score, row) in scores.iter().zip(seen) {
                    for c in 0..hd {
                        want[i * width + head * hd + c] +=
                            (score - top).exp() / sum * pool[row * 2 * kv + kv + col + c];
                    }
                }
            }
        }
        let scratch = attention.scratch();
        let parts = Array::unwritten(device, scratch, Format::F32);
        for parts in [None, (scratch > 0).then_some(parts.operand)] {
            let out = Array::unwritten(device, n * width, format);
            run(device, attention.attend(out.operand, parts));
            assert_close(&format!("attention, {what}"), &out.read(device), &want, format, 2e-6);
        }
    }
}

#[test]
fn new_tokens_attend_to_their_rows() {
    let Some(device) = device() else { return };
    let cases = [
        Case { heads: 6, kv_heads: 2, head_dim: 20, rows: 700, sequences: vec![[129, 2], [600, 1]] },
        Case { heads: 6, kv_heads: 2, head_dim: 20, rows: 4, sequences: Vec::new() },
        Case { heads: 2, kv_heads: 2, head_dim: 16, rows: 64, sequences: vec![[1, 1], [17, 1], [40, 3], [6, 6]] },
        Case { heads: 12, kv_heads: 1, head_dim: 9, rows: 400, sequences: vec![[20, 2], [300, 1]] },
        Case { heads: 2, kv_heads: 1, head_dim: 256, rows: 16, sequences: vec![[7, 2]] },
    ];
    // Compiling takes most of the time: f16 for some of them.
    for format in formats(&*device) {
        let count = if format == Format::F16 { 2 } else { cases.len() };
        cases.iter().take(count).for_each(|case| case.check(&*device, format));
    }
}
