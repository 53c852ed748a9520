//! A GPU opened through wgpu.
//!
//! Launches are recorded into one command list and handed to the driver when enough work has come together, when the host
//! reads, or when it waits. Small uploads are gathered and written with the list they belong to.

use super::launch::{Launch, MAX_OPERANDS, MAX_WORDS, Operand};
use super::pool::{self, Buffer, Pool};
use super::shaders::Shaders;
use super::{Address, Backend, Counters, Facts, ListBudget, Memory};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Bytes of a slab that tensors share; larger ones have their own.
const SLAB: u64 = 64 << 20;
/// Bytes of small uploads that one command list carries. Larger uploads go by themselves.
const ARENA: usize = 1 << 20;
/// Bytes of a large upload that are on their way at one time.
const PIECE: usize = 32 << 20;

/// A part of a slab that is read back.
struct Copied {
    /// Where it starts in the slab, and its length, in bytes.
    start: u64,
    len: u64,
    /// Where it lands.
    at: u64,
    /// Bytes before what was asked for.
    skip: u64,
}

/// What went wrong behind the program's back.
type Failure = Arc<Mutex<Option<String>>>;

/// An open adapter.
pub(super) struct Device {
    facts: Facts,
    budget: ListBudget,
    device: wgpu::Device,
    queue: wgpu::Queue,
    shaders: Shaders,
    pool: Arc<Pool>,
    failure: Failure,
    arena: wgpu::Buffer,
    state: Mutex<State>,
}

/// The operands' slabs, and where their bindings start and end.
type GroupKey = Vec<(u32, u64, u64)>;

#[derive(Default)]
struct State {
    /// The driver's buffer of each slab.
    slabs: Vec<Option<wgpu::Buffer>>,
    /// What is recorded; a pass goes before its list.
    pass: Option<wgpu::ComputePass<'static>>,
    list: Option<wgpu::CommandEncoder>,
    launches: usize,
    flops: f64,
    /// Small uploads of this list.
    staged: Vec<u8>,
    groups: HashMap<GroupKey, wgpu::BindGroup>,
    /// Where downloads land.
    landing: Option<wgpu::Buffer>,
    counters: Counters,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}, {})", self.facts.name, self.facts.api)
    }
}

fn failed(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Device, text)
}

fn first_line(err: &impl fmt::Display) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}

/// What the kernels need of every adapter.
fn missing(adapter: &wgpu::Adapter) -> Option<String> {
    let limits = adapter.limits();
    if !adapter.features().contains(wgpu::Features::IMMEDIATES) || (limits.max_immediate_size as usize) < 4 * MAX_WORDS
    {
        return Some(format!("kernels with {} bytes of arguments", 4 * MAX_WORDS));
    }
    if limits.max_compute_invocations_per_workgroup < 256 || limits.max_compute_workgroup_storage_size < 16_384 {
        return Some("workgroups of 256 threads with 16 KB of memory".to_owned());
    }
    (limits.max_storage_buffers_per_shader_stage < MAX_OPERANDS as u32)
        .then(|| format!("kernels of {MAX_OPERANDS} buffers"))
}

impl Device {
    pub(super) fn open(adapter: &wgpu::Adapter, mut facts: Facts) -> Result<Self> {
        if let Some(what) = missing(adapter) {
            return Err(failed(format!("{} lacks {what}", facts.name)));
        }
        let (device, queue) = match request(adapter, !facts.cooperative_matrices.is_empty()) {
            Err(err) if !facts.cooperative_matrices.is_empty() => {
                log::warn!("{} does not open with cooperative matrices: {}", facts.name, first_line(&err));
                facts.cooperative_matrices.clear();
                request(adapter, false)
            }
            opened => opened,
        }
        .map_err(|err| failed(format!("{}: {}", facts.name, first_line(&err))))?;
        let failure = Failure::default();
        let note = |failure: &Failure, text: String| {
            log::error!("GPU: {text}");
            failure.lock().get_or_insert(text);
        };
        let seen = failure.clone();
        device.on_uncaptured_error(Arc::new(move |err: wgpu::Error| note(&seen, first_line(&err))));
        let seen = failure.clone();
        device.set_device_lost_callback(move |reason, text| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                note(&seen, format!("the device was lost: {}", first_line(&text)));
            }
        });
        let arena = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("uploads"),
            size: ARENA as u64,
            usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let shaders = Shaders::new(device.clone());
        let (pool, state) = (Arc::new(Pool::default()), Mutex::new(State::default()));
        let budget = ListBudget::of(&facts);
        Ok(Self { facts, budget, device, queue, shaders, pool, failure, arena, state })
    }

    /// An error if something went wrong since the device was opened: nothing it holds can be trusted any more.
    fn check(&self) -> Result<()> {
        match &*self.failure.lock() {
            Some(text) => Err(failed(format!("{}: {text}", self.facts.name))),
            None => Ok(()),
        }
    }

    /// Asks the driver for a slab that holds so many bytes.
    fn add_slab(&self, bytes: u64) -> Result<()> {
        let mut state = self.state.lock();
        let most = self.facts.max_buffer;
        if bytes > most {
            return Err(failed(format!(
                "{} takes at most {} MB in one piece, not {}",
                self.facts.name,
                most >> 20,
                bytes >> 20
            )));
        }
        // What earlier work left unused makes room first.
        let unused = self.pool.remove_unused();
        if !unused.is_empty() {
            state.groups.clear();
            unused.into_iter().for_each(|slab| state.slabs[slab as usize] = None);
        }
        let size = bytes.max(SLAB.min(most));
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("slab"),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if pollster::block_on(scope.pop()).is_some() {
            let held = self.pool.memory().held;
            let (name, size) = (&self.facts.name, size >> 20);
            return Err(failed(format!("{name} has no {size} MB of memory left beside the {} MB held", held >> 20)));
        }
        state.counters.allocations += 1;
        let number = self.pool.add_slab(size, bytes <= pool::SMALL) as usize;
        if state.slabs.len() <= number {
            state.slabs.resize(number + 1, None);
        }
        state.slabs[number] = Some(buffer);
        Ok(())
    }

    /// The command list, with no pass open.
    fn list<'a>(&self, state: &'a mut State) -> &'a mut wgpu::CommandEncoder {
        state.pass = None;
        state.list.get_or_insert_with(|| self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    fn submit(&self, state: &mut State) {
        state.pass = None;
        let Some(list) = state.list.take() else { return };
        if !state.staged.is_empty() {
            self.queue.write_buffer(&self.arena, 0, &state.staged);
            state.staged.clear();
        }
        self.queue.submit([list.finish()]);
        (state.launches, state.flops) = (0, 0.0);
        state.counters.submissions += 1;
    }

    /// Memory of at least so many bytes that the host can read.
    fn landing(&self, state: &mut State, bytes: u64) -> wgpu::Buffer {
        if let Some(landing) = state.landing.take().filter(|landing| landing.size() >= bytes) {
            return landing;
        }
        state.counters.allocations += 1;
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("downloads"),
            size: bytes.next_power_of_two().max(1 << 16),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        })
    }

    fn poll(&self) -> Result<()> {
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|err| failed(first_line(&err)))?;
        self.check()
    }

    /// Where an operand's binding starts and ends, in bytes of its slab: the whole slab where that can be bound.
    fn window(&self, slab: u64, operand: Operand) -> Result<(u64, u64)> {
        if slab <= self.facts.max_binding {
            return Ok((0, slab));
        }
        let start = operand.address.byte() / pool::ALIGNMENT * pool::ALIGNMENT;
        let end = (operand.address.byte() + operand.bytes()).next_multiple_of(4);
        if end - start > self.facts.max_binding {
            let (name, most) = (&self.facts.name, self.facts.max_binding);
            return Err(Error::internal(format!(
                "{name} binds {most} bytes at a time, a kernel wanted {}",
                end - start
            )));
        }
        Ok((start, end))
    }
}

impl State {
    fn slab(&self, number: u32) -> Result<&wgpu::Buffer> {
        let slab = self.slabs.get(number as usize).and_then(Option::as_ref);
        slab.ok_or_else(|| Error::internal(format!("memory of slab {number}, which is not there")))
    }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn whole_words(what: &str, at: Address, bytes: u64) -> Result<()> {
    if at.byte().is_multiple_of(4) && bytes.is_multiple_of(4) {
        return Ok(());
    }
    Err(Error::internal(format!("{what} of {bytes} bytes from byte {}", at.byte())))
}

impl Backend for Device {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.check()?;
        if let Some(buffer) = self.pool.take(bytes) {
            return Ok(buffer);
        }
        self.add_slab(pool::rounded(bytes))?;
        self.pool.take(bytes).ok_or_else(|| Error::internal("a new slab that does not hold what it was made for"))
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        whole_words("an upload", to, bytes.len() as u64)?;
        let mut state = self.state.lock();
        state.counters.uploaded += bytes.len() as u64;
        if bytes.len() <= ARENA / 4 {
            if state.staged.len() + bytes.len() > ARENA {
                self.submit(&mut state);
            }
            let (at, slab) = (state.staged.len() as u64, state.slab(to.slab())?.clone());
            state.staged.extend_from_slice(bytes);
            self.list(&mut state).copy_buffer_to_buffer(&self.arena, at, &slab, to.byte(), bytes.len() as u64);
            return Ok(());
        }
        // What was given before comes first; each piece is handed over at once, so that its copy does not pile up.
        self.submit(&mut state);
        let slab = state.slab(to.slab())?;
        let mut at = to.byte();
        for piece in bytes.chunks(PIECE) {
            self.queue.write_buffer(slab, at, piece);
            self.queue.submit([]);
            at += piece.len() as u64;
        }
        self.check()
    }

    fn clear(&self, at: Address, bytes: u64) -> Result<()> {
        whole_words("a clearing", at, bytes)?;
        let mut state = self.state.lock();
        let slab = state.slab(at.slab())?.clone();
        self.list(&mut state).clear_buffer(&slab, at.byte(), Some(bytes));
        Ok(())
    }

    fn download(&self, parts: &[(Address, u64)]) -> Result<Vec<Vec<u8>>> {
        let mut state = self.state.lock();
        let mut copies = Vec::with_capacity(parts.len());
        let mut all = 0;
        for &(from, bytes) in parts {
            // Copies are of whole words.
            let start = from.byte() / 4 * 4;
            let len = (from.byte() + bytes).next_multiple_of(4) - start;
            copies.push(Copied { start, len, at: all, skip: from.byte() - start });
            all += len;
        }
        let landing = self.landing(&mut state, all.max(4));
        for ((from, _), Copied { start, len, at, .. }) in parts.iter().zip(&copies) {
            let slab = state.slab(from.slab())?.clone();
            if *len > 0 {
                self.list(&mut state).copy_buffer_to_buffer(&slab, *start, &landing, *at, *len);
            }
        }
        self.submit(&mut state);
        state.counters.waits += 1;
        state.counters.downloaded += parts.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let mapped = Arc::new(Mutex::new(Ok(())));
        let result = mapped.clone();
        landing.map_async(wgpu::MapMode::Read, ..all.max(4), move |outcome| *result.lock() = outcome);
        self.poll()?;
        if let Err(err) = &*mapped.lock() {
            return Err(failed(format!("{}: reading back failed: {}", self.facts.name, first_line(err))));
        }
        let values = {
            let view = landing.get_mapped_range(..all.max(4)).map_err(|err| failed(first_line(&err)))?;
            let part = |(copied, (_, bytes)): (&Copied, &(Address, u64))| {
                let start = (copied.at + copied.skip) as usize;
                let values = view.get(start..start + *bytes as usize).map(<[u8]>::to_vec);
                values.ok_or_else(|| Error::internal("fewer bytes came back than were asked for"))
            };
            copies.iter().zip(parts).map(part).collect::<Result<Vec<_>>>()
        };
        landing.unmap();
        // A large one would hold memory that is seldom needed.
        if landing.size() <= 64 << 20 {
            state.landing = Some(landing);
        }
        values
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        if launch.is_empty() {
            return Ok(());
        }
        let count = launch.operands.len();
        if count > MAX_OPERANDS || count + launch.words.len() > MAX_WORDS {
            let words = launch.words.len();
            return Err(Error::internal(format!("{} with {count} operands and {words} words", launch.entry)));
        }
        let shader = self.shaders.get(launch)?;
        let mut state = self.state.lock();
        let any = launch.operands.iter().flatten().next().copied();
        let any = any.ok_or_else(|| Error::internal(format!("{} works on nothing", launch.entry)))?;
        let (mut words, mut key) = (Vec::with_capacity(MAX_WORDS), GroupKey::with_capacity(count));
        for operand in &launch.operands {
            let bound = operand.unwrap_or(Operand { len: 1, ..any });
            let size = state.slab(bound.address.slab())?.size();
            let (start, end) = self.window(size, bound)?;
            key.push((bound.address.slab(), start, end));
            words.push(((bound.address.byte() - start) / bound.format.bytes()) as u32);
        }
        words.extend_from_slice(&launch.words);
        if !state.groups.contains_key(&key) {
            let entries = key.iter().enumerate().map(|(binding, &(slab, start, end))| {
                let binding_of = wgpu::BufferBinding {
                    buffer: state.slab(slab)?,
                    offset: start,
                    size: std::num::NonZeroU64::new(end - start),
                };
                Ok(wgpu::BindGroupEntry {
                    binding: binding as u32,
                    resource: wgpu::BindingResource::Buffer(binding_of),
                })
            });
            let entries = entries.collect::<Result<Vec<_>>>()?;
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: self.shaders.bindings(count),
                entries: &entries,
            });
            if state.groups.len() >= 4096 {
                state.groups.clear();
            }
            state.groups.insert(key.clone(), group);
        }
        if state.pass.is_none() {
            let pass =
                self.list(&mut state).begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime();
            state.pass = Some(pass);
        }
        let State { pass, groups, .. } = &mut *state;
        if let Some(pass) = pass {
            pass.set_pipeline(&shader);
            pass.set_bind_group(0, groups.get(&key), &[]);
            pass.set_immediates(0, &bytes_of(&words));
            let [x, y, z] = launch.grid;
            pass.dispatch_workgroups(x, y, z);
        }
        state.counters.kernels += 1;
        state.counters.flops += launch.flops;
        state.counters.traffic += launch.traffic() as f64;
        state.launches += 1;
        state.flops += launch.flops;
        if self.budget.is_full(state.launches, state.flops) {
            self.submit(&mut state);
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let mut state = self.state.lock();
        self.submit(&mut state);
        state.counters.waits += 1;
        self.poll()
    }

    fn memory(&self) -> Memory {
        self.pool.memory()
    }

    fn counters(&self) -> Counters {
        self.state.lock().counters
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}

/// Opens an adapter with what kernels use of it.
#[expect(unsafe_code, reason = "cooperative matrices are experimental in wgpu")]
fn request(
    adapter: &wgpu::Adapter,
    cooperative: bool,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let mut wanted = wgpu::Features::IMMEDIATES | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    if cooperative {
        wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: of the experimental features only this one is asked for. Two kernels of this crate use it, on workgroup
        // memory of a size that is compiled into them, and no product runs by it before a test of its results on this device.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("adamix"),
        required_features: adapter.features() & wanted,
        required_limits: adapter.limits(),
        experimental_features,
        ..Default::default()
    }))
}
