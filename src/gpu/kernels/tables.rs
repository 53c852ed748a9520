//! Rows of tables by their numbers: gathered, and added to.
//!
//! Numbers are the caller's to check: those that the first table, or the output that is added to, does not have are skipped.

use super::rows::{lanes, lanes_of, over_rows, threads_of, version};
use crate::gpu::{Launch, Operand, Source, pool};

const SOURCES: [Source; 2] = lanes!("tables", ["W", "Y"]);

/// A table, and the rows that are taken from it.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// All tables of a launch have one format. `[rows, d]`
    pub table: Operand,
    /// Numbers of rows, U32. `[n]`
    pub ids: Operand,
}

/// What a kernel of `n` rows of `d` is compiled with and works on.
struct Rows {
    entry: &'static str,
    lookups: [Option<Lookup>; 3],
    /// Whether what is there is added to.
    base: bool,
    /// Whether no number comes twice.
    unique: bool,
    out: Operand,
    n: usize,
    d: usize,
}

impl Rows {
    /// Numbers from `first` on are looked up, so many as there are in the part of the table that is given.
    fn launch(&self, [first, rows]: [usize; 2]) -> Launch {
        let [a, b, c] = self.lookups.map(|lookup| lookup.map(|lookup| lookup.table));
        let format = a.unwrap_or(self.out).format;
        let lanes = lanes_of(self.d, &[a, b, c, Some(self.out)]);
        let width = self.d / lanes;
        let mut launch = Launch::new(version(SOURCES, lanes), self.entry)
            .constant("W", format)
            .constant("Y", self.out.format)
            .constant("TABLES", [a, b, c].iter().flatten().count() as u32)
            .constant("BASE", self.base)
            .constant("UNIQUE", self.unique);
        for lookup in self.lookups {
            launch = launch.operand(lookup.map(|lookup| lookup.table)).operand(lookup.map(|lookup| lookup.ids));
        }
        let n = if self.d == 0 { 0 } else { self.n };
        over_rows(launch.operand(self.out), n, threads_of(width))
            .ints([self.n, width, first, rows])
            .work(self.n as f64 * self.d as f64)
    }
}

/// Parts of a table with rows of `d` that can be bound. -> first row, rows
fn blocks(table: Operand, d: usize, max_binding: u64) -> Vec<[usize; 2]> {
    let row = (d as u64 * table.format.bytes()).max(1);
    let rows = (table.bytes() / row) as usize;
    // A binding may start somewhat earlier than what is bound.
    let most = (max_binding.saturating_sub(pool::ALIGNMENT) / row).max(1) as usize;
    (0..rows).step_by(most).map(|first| [first, most.min(rows - first)]).collect()
}

fn rows_of(table: Operand, d: usize, [first, rows]: [usize; 2]) -> Operand {
    table.part(first * d, rows * d)
}

/// `out[i] = Σ table[ids[i]]` over one to three tables, the first of which may be larger than what can be bound at a time:
/// then it is taken in parts. out `[n, d]`
pub fn gather(first: Lookup, others: &[Lookup], out: Operand, d: usize, max_binding: u64) -> Vec<Launch> {
    let n = first.ids.len as usize;
    let rows = Rows { entry: "gather", lookups: [None; 3], base: false, unique: false, out, n, d };
    let parts = blocks(first.table, d, max_binding);
    let [second, third] = [0, 1].map(|i| others.get(i).copied());
    if let [whole] = parts[..] {
        return vec![Rows { lookups: [Some(first), second, third], ..rows }.launch(whole)];
    }
    let part = |block| {
        let table = rows_of(first.table, d, block);
        Rows { lookups: [Some(Lookup { table, ..first }), None, None], ..rows }.launch(block)
    };
    let mut launches: Vec<Launch> = parts.into_iter().map(part).collect();
    if let Some(second) = second {
        let all = [0, second.table.len as usize / d.max(1)];
        launches.push(Rows { lookups: [Some(second), third, None], base: true, ..rows }.launch(all));
    }
    launches
}

/// `out[ids[i]] += x[i]` where no number comes twice. x `[n, d]`, ids U32 `[n]`, out `[rows, d]`
pub fn scatter_add_unique(x: Operand, ids: Operand, out: Operand, d: usize, max_binding: u64) -> Vec<Launch> {
    add(Lookup { table: x, ids }, true, out, [ids.len as usize, d], max_binding)
}

/// Which rows belong to each number, for numbers that come more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What the kernel reads: to be a U32 operand of so many values.
    pub words: Vec<u32>,
    /// Different numbers.
    pub distinct: usize,
}

impl Places {
    /// Of a list of numbers; rows of one number stay in their order.
    pub fn of(ids: &[u32]) -> Self {
        let mut list: Vec<(u32, u32)> = ids.iter().zip(0..).map(|(&id, row)| (id, row)).collect();
        list.sort_unstable();
        let mut words = Vec::with_capacity(4 * ids.len());
        let mut start = 0;
        for same in list.chunk_by(|a, b| a.0 == b.0) {
            let id = same.first().map_or(0, |&(id, _)| id);
            words.extend([id, start, same.len() as u32]);
            start += same.len() as u32;
        }
        let distinct = words.len() / 3;
        words.extend(list.iter().map(|&(_, row)| row));
        Self { words, distinct }
    }
}

/// `out[ids[i]] += x[i]`, rows of one number in their order. x `[n, d]`, out `[rows, d]`; places: the words of [`Places`] of
/// the numbers, `distinct` of them different.
pub fn scatter_add(
    x: Operand,
    (places, distinct): (Operand, usize),
    out: Operand,
    d: usize,
    max_binding: u64,
) -> Vec<Launch> {
    add(Lookup { table: x, ids: places }, false, out, [distinct, d], max_binding)
}

fn add(from: Lookup, unique: bool, out: Operand, [n, d]: [usize; 2], max_binding: u64) -> Vec<Launch> {
    let part = |block| {
        let out = rows_of(out, d, block);
        Rows { entry: "scatter_add", lookups: [Some(from), None, None], base: true, unique, out, n, d }.launch(block)
    };
    blocks(out, d, max_binding).into_iter().map(part).collect()
}
