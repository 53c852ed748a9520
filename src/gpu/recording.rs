//! A device that counts what it is given and computes nothing.

use super::launch::{Launch, MAX_OPERANDS, MAX_WORDS};
use super::pool::{self, Buffer, Pool};
use super::{AdapterKind, Address, Backend, Counters, Facts, ListBudget, Memory};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// Counts launches, bytes and memory of what runs on it; everything it is asked to read is zero.
///
/// A step on it costs what its launches cost to plan, so that the step of any model can be looked at without the GPU for it.
#[derive(Debug)]
pub struct Recording {
    facts: Facts,
    pool: Arc<Pool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    open: bool,
    /// Of the command list that is open.
    list: (usize, f64),
    launches: Option<Vec<Launch>>,
}

impl Recording {
    /// A device of this kind.
    pub fn new(facts: Facts) -> Self {
        Self { facts, pool: Arc::default(), state: Mutex::default() }
    }

    /// A device of this kind with generous limits.
    pub fn like(kind: AdapterKind) -> Self {
        Self::new(Facts {
            name: "a GPU that counts".to_owned(),
            kind,
            api: "none".to_owned(),
            driver: "none".to_owned(),
            memory: None,
            max_buffer: 4 << 30,
            max_binding: 2 << 30,
            workgroup_memory: 32 << 10,
            workgroup_threads: 1024,
            f16: true,
            subgroup: [32, 32],
            cooperative_matrices: Vec::new(),
        })
    }

    /// From now on keeps every launch.
    pub fn keep_launches(&self) {
        self.state.lock().launches = Some(Vec::new());
    }

    /// The launches that were kept.
    pub fn launches(&self) -> Vec<Launch> {
        self.state.lock().launches.clone().unwrap_or_default()
    }

    fn submit(state: &mut State) {
        state.counters.submissions += u64::from(std::mem::take(&mut state.open));
        state.list = (0, 0.0);
    }
}

impl Backend for Recording {
    fn computes(&self) -> bool {
        false
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        if let Some(buffer) = self.pool.take(bytes) {
            return Ok(buffer);
        }
        self.pool.add_slab(pool::rounded(bytes).max(64 << 20), bytes <= pool::SMALL);
        self.state.lock().counters.allocations += 1;
        self.pool.take(bytes).ok_or_else(|| Error::internal("a new slab that does not hold what it was made for"))
    }

    fn upload(&self, _to: Address, bytes: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        state.counters.uploaded += bytes.len() as u64;
        state.open = true;
        Ok(())
    }

    fn clear(&self, _at: Address, _bytes: u64) -> Result<()> {
        self.state.lock().open = true;
        Ok(())
    }

    fn download(&self, parts: &[(Address, u64)]) -> Result<Vec<Vec<u8>>> {
        let mut state = self.state.lock();
        Self::submit(&mut state);
        state.counters.downloaded += parts.iter().map(|(_, bytes)| bytes).sum::<u64>();
        state.counters.waits += 1;
        Ok(parts.iter().map(|&(_, bytes)| vec![0; bytes as usize]).collect())
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        if launch.is_empty() {
            return Ok(());
        }
        let (operands, words) = (launch.operands.len(), launch.words.len());
        if operands > MAX_OPERANDS || operands + words > MAX_WORDS {
            return Err(Error::internal(format!("{} with {operands} operands and {words} words", launch.entry)));
        }
        let mut state = self.state.lock();
        state.open = true;
        state.counters.kernels += 1;
        state.counters.flops += launch.flops;
        state.counters.traffic += launch.traffic() as f64;
        if let Some(launches) = &mut state.launches {
            launches.push(launch.clone());
        }
        state.list = (state.list.0 + 1, state.list.1 + launch.flops);
        if ListBudget::of(&self.facts).is_full(state.list.0, state.list.1) {
            Self::submit(&mut state);
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let mut state = self.state.lock();
        Self::submit(&mut state);
        state.counters.waits += 1;
        Ok(())
    }

    fn memory(&self) -> Memory {
        self.pool.memory()
    }

    fn counters(&self) -> Counters {
        self.state.lock().counters
    }

    fn failure(&self) -> Option<String> {
        None
    }
}
