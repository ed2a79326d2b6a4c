//! Where training runs.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::LearnError;

/// The kind of processor that trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor, all cores.
    #[default]
    Cpu,
    /// The first NVIDIA card (feature `cuda`).
    Cuda,
    /// The best card that Vulkan, Metal or DirectX 12 reach (feature `wgpu`).
    Wgpu,
}

impl DeviceKind {
    /// The device itself.
    ///
    /// # Errors
    /// A kind that this build leaves out, with the feature that brings it.
    pub(crate) fn open(self) -> Result<Device, LearnError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => Err(missing("cuda")),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu => Err(missing("wgpu")),
        }
    }
}

#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn missing(feature: &str) -> LearnError {
    LearnError::Training(format!("this build has no {feature} back end; build it with `--features {feature}`, or train on the cpu"))
}
