//! New tokens that attend to cached rows, against the processor's version.

use super::host::{Memory, run};
use super::{FORMATS, close, random, values};
use adamix::nn::kernels::cached_attention::{HeadCounts, Pool, Query, attend};
use adamix::nn::kernels::cuda::lm_plan::CachedAttention;
use adamix::tensor::{DType, Device, Tensor};

#[test]
fn new_tokens_see_the_rows_of_their_sequence() {
    for (format, dtype, error) in FORMATS {
        for (heads, kv_heads, head_dim) in [(4, 2, 16), (3, 3, 20), (9, 3, 64), (2, 1, 128), (1, 1, 5)] {
            let (width, kv, pool_rows) = (heads * head_dim, kv_heads * head_dim, 90);
            // Three sequences; the second shares its beginning with the first and has two new tokens.
            let lists: [Vec<u32>; 3] =
                [(0..40).rev().chain([41]).collect(), (5..40).rev().chain([50, 60]).collect(), vec![77]];
            let new = [(0usize, 41usize, 41u32), (1, 36, 50), (1, 37, 60), (2, 1, 77)];
            let n = new.len();
            let qkv = random((n, width + 2 * kv), 1, dtype);
            let pool = random((pool_rows, 2 * kv), 2, dtype);
            let starts = [0, lists[0].len(), lists[0].len() + lists[1].len()];
            let tokens: Vec<u32> =
                new.iter().flat_map(|&(list, seen, row)| [starts[list] as u32, seen as u32, row]).collect();
            let rows: Vec<u32> = lists.concat();
            let words = |words: &[u32]| Memory::of(&Tensor::from_slice(words, words.len(), &Device::Cpu).unwrap());
            let (mut mtokens, mut mrows) = (words(&tokens), words(&rows));
            let [mut mqkv, mut mpool] = [&qkv, &pool].map(Memory::of);
            let mut out = Memory::empty(n * width, dtype);
            let shape = CachedAttention {
                format,
                qkv: mqkv.address(),
                pool: mpool.address(),
                tokens: mtokens.address(),
                rows: mrows.address(),
                out: out.address(),
                n,
                heads,
                kv_heads,
                head_dim,
            };
            run(&shape.store_rows());
            run(&shape.attend());

            let single = |t: &Tensor| values(t).iter().map(|&v| v as f32).collect::<Vec<f32>>();
            let (qkv, pool) = (single(&qkv), single(&pool));
            let column = |from: usize| pool.chunks(2 * kv).flat_map(|row| row[from..from + kv].to_vec()).collect();
            let (mut keys, mut all): (Vec<f32>, Vec<f32>) = (column(0), column(kv));
            for (i, &(_, _, row)) in new.iter().enumerate() {
                let (from, to) = (i * (width + 2 * kv) + width, row as usize * kv);
                keys[to..to + kv].copy_from_slice(&qkv[from..from + kv]);
                all[to..to + kv].copy_from_slice(&qkv[from + kv..from + 2 * kv]);
            }
            let queries = new.map(|(list, seen, _)| Query { rows: &lists[list], seen });
            let counts = HeadCounts { heads, kv_heads, head_dim };
            let want = attend(&qkv, &queries, Pool { keys: &keys, values: &all }, counts).unwrap();
            let want = Tensor::from_vec(want, (n, width), &Device::Cpu).unwrap();
            close("attention", &out.tensor((n, width)), &want, 1.1 * error, 4e-6);
            let kept = mpool.tensor((pool_rows, 2 * kv));
            let both = keys.chunks(kv).zip(all.chunks(kv)).flat_map(|(k, v)| [k, v].concat()).collect::<Vec<f32>>();
            let both = Tensor::from_vec(both, (pool_rows, 2 * kv), &Device::Cpu).unwrap();
            assert_eq!(values(&kept), values(&both.to_dtype(DType::F64).unwrap()));
        }
    }
}
