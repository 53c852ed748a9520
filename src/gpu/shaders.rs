//! Shaders compiled when they are first used.

use super::launch::{Constant, Launch, MAX_OPERANDS, MAX_WORDS};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Source, entry point, number of operands, constants.
type Key = (&'static str, &'static str, usize, Vec<(&'static str, Constant)>);

pub(super) struct Shaders {
    device: wgpu::Device,
    /// Of kernels with 0, 1, 2... operands.
    layouts: Vec<(wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    compiled: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
}

impl Shaders {
    pub(super) fn new(device: wgpu::Device) -> Self {
        let layouts = (0..=MAX_OPERANDS).map(|count| layout(&device, count)).collect();
        Self { device, layouts, compiled: Mutex::default() }
    }

    /// How kernels with so many operands are bound.
    pub(super) fn bindings(&self, operands: usize) -> &wgpu::BindGroupLayout {
        &self.layouts[operands].0
    }

    /// The kernel of a launch.
    pub(super) fn get(&self, launch: &Launch) -> Result<wgpu::ComputePipeline> {
        let key = (launch.source.name, launch.entry, launch.operands.len(), launch.constants.clone());
        let mut compiled = self.compiled.lock();
        if let Some(pipeline) = compiled.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.compile(launch)?;
        compiled.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, launch: &Launch) -> Result<wgpu::ComputePipeline> {
        let name = format!("{}:{}", launch.source.name, launch.entry);
        let scopes =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal].map(|f| self.device.push_error_scope(f));
        let description =
            wgpu::ShaderModuleDescriptor { label: Some(&name), source: wgpu::ShaderSource::Wgsl(launch.text().into()) };
        let module = module(&self.device, description);
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&name),
            layout: Some(&self.layouts[launch.operands.len()].1),
            module: &module,
            entry_point: Some(launch.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes what it shares before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        // The last one opened goes first.
        let mut problems =
            scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).collect::<Vec<_>>();
        match problems.pop() {
            None => Ok(pipeline),
            Some(err) => Err(Error::new(ErrorKind::Device, format!("compiling the kernel {name}: {err}"))),
        }
    }
}

/// Debug builds check every access of a kernel; release builds trust what those found.
#[cfg(debug_assertions)]
fn module(device: &wgpu::Device, description: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    device.create_shader_module(description)
}

#[cfg(not(debug_assertions))]
#[expect(unsafe_code, reason = "bounds checks in the inner loops of products cost more than the products")]
fn module(device: &wgpu::Device, description: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    // SAFETY: the kernels are this crate's own; their grids and sizes are made by plans that the tests run with checks on.
    unsafe { device.create_shader_module_trusted(description, wgpu::ShaderRuntimeChecks::unchecked()) }
}

fn layout(device: &wgpu::Device, count: usize) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
    // All bindings can be written, so that tensors that share a slab can be read and written by one kernel.
    let entry = |binding| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: false },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = (0..count as u32).map(entry).collect();
    let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
    let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&bindings)],
        immediate_size: 4 * MAX_WORDS as u32,
    });
    (bindings, pipeline)
}
