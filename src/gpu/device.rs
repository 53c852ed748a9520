//! A GPU opened through wgpu.
//!
//! Launches are recorded into one command list and handed to the driver when enough work has come together, when the host
//! reads, or when it waits. Small uploads are gathered and written with the list they belong to.

mod memory;
mod transfers;

use super::launch::{Launch, MAX_OPERANDS, MAX_WORDS, Operand};
use super::pool::{self, Buffer, Pool};
use super::shaders::Shaders;
use super::{Address, Backend, Counters, Facts, ListBudget, Memory};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Bytes of small uploads that one command list carries. Larger uploads go by themselves.
const ARENA: usize = 1 << 20;

/// What went wrong behind the program's back.
type Failure = Arc<Mutex<Option<String>>>;

/// The first thing that went wrong is kept.
fn note(failure: &Failure, text: String) {
    failure.lock().get_or_insert(text);
}

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

/// What an error of wgpu says in one line: the last cause it names, which is the one that tells something.
fn last_cause(err: &dyn fmt::Display) -> String {
    let text = err.to_string();
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no reason was given").to_owned()
}

/// What the text of a panic says.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.map_or_else(|| "no reason was given".to_owned(), |text| last_cause(&text))
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
    // Its old compiler refuses kernels that wait for each other inside of loops, and lacks subgroups, which tells it.
    if adapter.get_info().backend == wgpu::Backend::Dx12 && !adapter.features().contains(wgpu::Features::SUBGROUP) {
        return Some(
            "DirectX's shader compiler DXC (put dxcompiler.dll beside the program, or install a driver with Vulkan)"
                .to_owned(),
        );
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
                log::warn!("{} does not open with cooperative matrices: {}", facts.name, last_cause(&err));
                facts.cooperative_matrices.clear();
                request(adapter, false)
            }
            opened => opened,
        }
        .map_err(|err| failed(format!("{}: {}", facts.name, last_cause(&err))))?;
        let failure = Failure::default();
        let seen = failure.clone();
        device.on_uncaptured_error(Arc::new(move |err: wgpu::Error| {
            log::error!("GPU: {err}");
            note(&seen, last_cause(&err));
        }));
        let seen = failure.clone();
        device.set_device_lost_callback(move |reason, text| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                log::error!("GPU: the device was lost: {text}");
                note(&seen, format!("the device was lost: {}", last_cause(&text)));
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

    /// Work with the driver. wgpu panics where a device is lost while it is waited for; that is a failure like any other.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check()?;
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => result,
            Err(panic) => {
                note(&self.failure, format!("the driver failed: {}", panic_text(&*panic)));
                self.check()?;
                Err(failed("the driver failed"))
            }
        }
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

    fn poll(&self) -> Result<()> {
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|err| failed(last_cause(&err)))?;
        self.check()
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
        self.guarded(|| {
            if let Some(buffer) = self.pool.take(bytes) {
                return Ok(buffer);
            }
            self.add_slab(pool::rounded(bytes))?;
            self.pool.take(bytes).ok_or_else(|| Error::internal("a new slab that does not hold what it was made for"))
        })
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.guarded(|| self.write(to, bytes))
    }

    fn clear(&self, at: Address, bytes: u64) -> Result<()> {
        self.guarded(|| {
            whole_words("a clearing", at, bytes)?;
            let mut state = self.state.lock();
            let slab = state.slab(at.slab())?.clone();
            self.list(&mut state).clear_buffer(&slab, at.byte(), Some(bytes));
            Ok(())
        })
    }

    fn download(&self, parts: &[(Address, u64)]) -> Result<Vec<Vec<u8>>> {
        self.guarded(|| self.read(parts))
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.guarded(|| {
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
        })
    }

    fn wait(&self) -> Result<()> {
        self.guarded(|| {
            let mut state = self.state.lock();
            self.submit(&mut state);
            state.counters.waits += 1;
            self.poll()
        })
    }

    fn trim(&self) {
        let mut state = self.state.lock();
        self.submit(&mut state);
        self.drop_unused(&mut state);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter;

    #[test]
    fn errors_are_told_by_their_last_cause() {
        let text = "Validation Error\n\nCaused by:\n  In Device::create_buffer\n    the size is 0\n\n";
        assert_eq!(last_cause(&text), "the size is 0");
        assert_eq!(last_cause(&""), "no reason was given");
    }

    #[test]
    fn a_driver_that_panics_is_a_failure_of_the_device() {
        let found = adapter::adapters();
        let Some(facts) = found.first() else { return };
        let device = adapter::with_first(|first| Device::open(first, facts.clone())).unwrap();
        let buffer = device.allocate(1024).unwrap();
        let err =
            device.guarded::<()>(|| panic!("Validation Error\n\nCaused by:\n  Parent device is lost")).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Device);
        assert_eq!(err.to_string(), format!("{}: the driver failed: Parent device is lost", facts.name));
        // From then on everything is refused, for the same reason.
        for again in [device.wait(), device.clear(buffer.address(), 4), device.allocate(4).map(drop)] {
            assert_eq!(again.unwrap_err().to_string(), err.to_string());
        }
        assert!(device.failure().is_some());
    }

    #[test]
    fn unused_memory_goes_back() {
        let found = adapter::adapters();
        let Some(facts) = found.first() else { return };
        let device = adapter::with_first(|first| Device::open(first, facts.clone())).unwrap();
        let (large, small) = (device.allocate(pool::SMALL + 1).unwrap(), device.allocate(64).unwrap());
        let held = device.memory().held;
        drop(large);
        device.trim();
        assert!(device.memory().held < held && device.memory().used == small.bytes());
        // What is in use keeps its values; what is asked for again is there again.
        device.upload(small.address(), &[7; 64]).unwrap();
        let again = device.allocate(pool::SMALL + 1).unwrap();
        assert_eq!(device.download(&[(small.address(), 64)]).unwrap(), [vec![7; 64]]);
        assert_eq!(device.memory().held, held);
        drop(again);
    }

    #[test]
    fn what_is_too_much_for_one_round_comes_back_in_several() {
        let found = adapter::adapters();
        let Some(facts) = found.first() else { return };
        let device = adapter::with_first(|first| Device::open(first, facts.clone())).unwrap();
        let len = (70usize << 20) + 6;
        let values: Vec<u8> = (0..len + 2).map(|i| (i / 3) as u8).collect();
        let [large, small] = [(len + 2) as u64, 12].map(|bytes| device.allocate(bytes).unwrap());
        device.upload(large.address(), &values).unwrap();
        device.upload(small.address(), &values[..12]).unwrap();
        let before = device.counters();
        let parts = [(small.address(), 12), (large.address().plus(2), len as u64), (small.address().plus(4), 0)];
        let got = device.download(&parts).unwrap();
        assert!(got[0] == values[..12] && got[1] == values[2..] && got[2].is_empty());
        assert_eq!(device.counters().since(before).waits, 2);
    }
}
