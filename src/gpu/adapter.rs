//! Which adapters the computer has, in the order they are preferred, and opening one.

use super::device::Device;
use super::{AdapterKind, Backend, CooperativeMatrix, Facts, Format};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// The application interfaces that are looked at. OpenGL is not one: it lacks what the kernels need.
const APIS: wgpu::Backends = wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);

/// What was found, for the life of the program: drivers do not come and go, and asking them takes a moment.
static FOUND: Mutex<Option<Vec<(Facts, wgpu::Adapter)>>> = Mutex::new(None);

/// Every adapter of the computer, the preferred one first; empty without a driver.
pub fn adapters() -> Vec<Facts> {
    FOUND.lock().get_or_insert_with(found).iter().map(|(facts, _)| facts.clone()).collect()
}

/// Opens the adapter of this number in the order of [`adapters`].
///
/// # Errors
/// Of kind [`Device`](ErrorKind::Device): there is no such adapter, it lacks what the kernels need, or its driver refuses.
pub fn open(number: usize) -> Result<Arc<dyn Backend>> {
    let mut all = FOUND.lock();
    let found = all.get_or_insert_with(found);
    let count = found.len();
    let Some((facts, adapter)) = found.get(number) else {
        let text = match count {
            0 => "no GPU and no driver for one was found".to_owned(),
            1 => "the computer has one GPU, number 0".to_owned(),
            _ => format!("the computer has {count} GPUs, numbers 0 to {}", count - 1),
        };
        return Err(Error::new(ErrorKind::Device, text));
    };
    let opened = Device::open(adapter, facts.clone());
    if opened.is_err() {
        // After a driver was restarted its adapters are others.
        *all = None;
    }
    Ok(Arc::new(opened?))
}

/// What an open device is made of, for tests: the preferred adapter.
#[cfg(test)]
pub(super) fn with_first<T>(work: impl FnOnce(&wgpu::Adapter) -> T) -> T {
    let mut all = FOUND.lock();
    work(&all.get_or_insert_with(found)[0].1)
}

fn found() -> Vec<(Facts, wgpu::Adapter)> {
    let mut description = wgpu::InstanceDescriptor::new_without_display_handle();
    description.backends = APIS;
    let instance = wgpu::Instance::new(description);
    let adapters = pollster::block_on(instance.enumerate_adapters(APIS));
    // One GPU may answer through two interfaces: the one that tells more is kept.
    let by_vulkan = |info: &wgpu::AdapterInfo| (info.vendor, info.device);
    let infos: Vec<_> = adapters.iter().map(wgpu::Adapter::get_info).collect();
    let in_vulkan: Vec<_> = infos.iter().filter(|info| info.backend == wgpu::Backend::Vulkan).map(by_vulkan).collect();
    let twice = |info: &wgpu::AdapterInfo| info.backend == wgpu::Backend::Dx12 && in_vulkan.contains(&by_vulkan(info));
    let kept = adapters.into_iter().zip(&infos).filter(|(_, info)| !twice(info));
    let mut all: Vec<_> = kept.map(|(adapter, _)| (facts(&adapter), adapter)).collect();
    all.sort_by_key(|(facts, _)| facts.kind);
    all
}

/// Bytes of the adapter's own memory, where Vulkan tells: the largest heap that is local to it; of one without
/// memory of its own, all that it can use.
#[expect(unsafe_code, reason = "asks the driver for properties of an adapter that is there")]
fn memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the handles belong to the adapter, which lives until after the call; nothing is changed or kept.
    let properties = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let heaps = properties.memory_heaps.iter().take(properties.memory_heap_count as usize);
    let local = |heap: &&ash::vk::MemoryHeap| heap.flags.contains(ash::vk::MemoryHeapFlags::DEVICE_LOCAL);
    if adapter.get_info().device_type == wgpu::DeviceType::IntegratedGpu {
        // It uses all of the computer's memory, whatever part of it is set aside.
        return heaps.map(|heap| heap.size).reduce(|sum, size| sum + size);
    }
    heaps.filter(local).map(|heap| heap.size).max()
}

/// The matrices that kernels use: square, of a size that WGSL has a type for, with sums in f32; the largest of each format,
/// f16 first.
fn cooperative_matrices(adapter: &wgpu::Adapter) -> Vec<CooperativeMatrix> {
    use wgpu::CooperativeScalarType as Scalar;
    // Kernels ask in which subgroup a thread is.
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(needed) {
        return Vec::new();
    }
    let all = adapter.cooperative_matrix_properties();
    let largest = |(scalar, operands, feature): (Scalar, Format, wgpu::Features)| {
        let fits = |found: &&wgpu::CooperativeMatrixProperties| {
            let size = found.m_size;
            let is_square = found.n_size == size && found.k_size == size && matches!(size, 8 | 16);
            is_square && found.ab_type == scalar && found.cr_type == Scalar::F32 && !found.saturating_accumulation
        };
        let size = all.iter().filter(fits).map(|found| found.m_size).max()?;
        adapter.features().contains(feature).then_some(CooperativeMatrix { size, operands })
    };
    let formats =
        [(Scalar::F16, Format::F16, wgpu::Features::SHADER_F16), (Scalar::F32, Format::F32, wgpu::Features::empty())];
    formats.into_iter().filter_map(largest).collect()
}

fn facts(adapter: &wgpu::Adapter) -> Facts {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    Facts {
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
        },
        api: format!("{:?}", info.backend),
        driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned(),
        name: info.name,
        memory: memory(adapter),
        max_buffer: limits.max_buffer_size,
        max_binding: limits.max_storage_buffer_binding_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        workgroup_threads: limits.max_compute_invocations_per_workgroup,
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroup: [info.subgroup_min_size, info.subgroup_max_size],
        cooperative_matrices: cooperative_matrices(adapter),
    }
}
