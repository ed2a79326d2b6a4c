//! How a model sees a picture: the one specification, stored with the model and used in training, prediction and export.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ImageError;
use crate::decode::{Picture, View};
use crate::image::{Image, Pixels, luma8, luma16};
use crate::resize::{Interpolation, Region, resize_region};

/// How a picture of any shape becomes one of the model's size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// Scale so that the picture just covers `round(size / crop_pct)`, then take the centre: torchvision's `Resize` and `CenterCrop`.
    ShorterSide {
        /// The part of the scaled picture's shorter side that is kept, in (0, 1].
        crop_pct: f32,
    },
    /// Stretch both sides.
    Squash,
    /// Fit inside, centred, and fill the rest.
    Letterbox {
        /// The value of the border in every channel, 0..=255.
        fill: u8,
    },
}

/// Which channels a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelMode {
    /// One: ITU-R 601 luma.
    Gray,
    /// Three: red, green, blue; grey pictures are repeated.
    Rgb,
}

impl ChannelMode {
    /// 1 or 3.
    pub fn count(self) -> usize {
        match self {
            ChannelMode::Gray => 1,
            ChannelMode::Rgb => 3,
        }
    }
}

/// From a picture to the values `[C, H, W]` that go into a network: size, channels, `(x / 255 − mean) / std` (65535 for 16 bits).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// `[height, width]` in pixels.
    pub size: [usize; 2],
    /// How the picture gets that size.
    pub resize: Resize,
    /// The filter.
    pub interpolation: Interpolation,
    /// Whether the filter is widened when a picture is reduced, as Pillow does.
    pub antialias: bool,
    /// Grey or RGB.
    pub channels: ChannelMode,
    /// Subtracted from values in 0..=1; one a channel.
    pub mean: Vec<f32>,
    /// Divided by afterwards; one a channel, above zero.
    pub std: Vec<f32>,
    /// RGB colour under transparent pixels; give it to the decoder (see [`Preprocess::decode_options`]).
    pub background: [u8; 3],
}

impl Preprocess {
    /// RGB at `[height, width]` with torchvision's mean and deviation: bilinear, shorter side, 87.5 % centre crop.
    pub fn imagenet(size: [usize; 2]) -> Preprocess {
        Preprocess {
            size,
            resize: Resize::ShorterSide { crop_pct: 0.875 },
            interpolation: Interpolation::Bilinear,
            antialias: true,
            channels: ChannelMode::Rgb,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            background: [0, 0, 0],
        }
    }

    /// Grey, stretched to `[height, width]`: MNIST and its like.
    pub fn gray(size: [usize; 2], mean: f32, std: f32) -> Preprocess {
        Preprocess {
            size,
            resize: Resize::Squash,
            interpolation: Interpolation::Bilinear,
            antialias: true,
            channels: ChannelMode::Gray,
            mean: vec![mean],
            std: vec![std],
            background: [0, 0, 0],
        }
    }

    /// How to decode pictures for this specification, within the default limits.
    pub fn decode_options(&self) -> crate::DecodeOptions {
        crate::DecodeOptions { background: self.background, ..Default::default() }
    }

    /// `[C, H, W]` of the result.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels.count(), self.size[0], self.size[1]]
    }

    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`ImageError::Setting`] naming the field.
    pub fn check(&self) -> Result<(), ImageError> {
        let require = |good: bool, field, expected, found: String| match good {
            true => Ok(()),
            false => Err(ImageError::Setting { field, expected, found }),
        };
        let sides = self.size.iter().all(|side| (1..=16384).contains(side));
        require(sides, "size", "a height and a width of 1 to 16384 pixels", format!("{:?}", self.size))?;
        if let Resize::ShorterSide { crop_pct } = self.resize {
            // Far below this the scaled picture would be beyond reason.
            require((0.01..=1.0).contains(&crop_pct), "resize.shorter_side.crop_pct", "a number from 0.01 to 1", crop_pct.to_string())?;
        }
        let one_a_channel = match self.channels {
            ChannelMode::Gray => "one finite number, as channels = gray",
            ChannelMode::Rgb => "three finite numbers, as channels = rgb",
        };
        let fits = |values: &[f32]| values.len() == self.channels.count() && values.iter().all(|value| value.is_finite());
        require(fits(&self.mean), "mean", one_a_channel, format!("{:?}", self.mean))?;
        require(fits(&self.std), "std", one_a_channel, format!("{:?}", self.std))?;
        require(self.std.iter().all(|&std| std > 0.0), "std", "numbers above zero", format!("{:?}", self.std))
    }

    /// The values `[C, H, W]`, normalised.
    pub fn apply(&self, image: &Image) -> Vec<f32> {
        let mut out = vec![0.0; self.shape().iter().product()];
        self.apply_into(image, &mut out);
        out
    }

    /// [`Preprocess::apply`] into a slice of `C * H * W` values.
    ///
    /// # Panics
    /// When the slice has another length.
    pub fn apply_into(&self, image: &Image, out: &mut [f32]) {
        self.apply_view(image, View::of(image), out);
    }

    /// The values `[C, H, W]` of a picture from [`decode_for`](crate::decode_for) or [`open_for`](crate::open_for) with this specification.
    ///
    /// Of a picture that was reduced while it was decoded, values differ from those of full decoding by about a fifth of a grey level of 255
    /// in the mean on photographs of 12 megapixels (`docs/pipeline.md`; tests hold bounds on small, noisy pictures).
    ///
    /// # Panics
    /// When the slice does not hold `C * H * W` values.
    pub fn apply_picture(&self, picture: &Picture, out: &mut [f32]) {
        self.apply_view(picture.image(), picture.view(), out);
    }

    fn apply_view(&self, image: &Image, view: View, out: &mut [f32]) {
        assert_eq!(out.len(), self.shape().iter().product::<usize>(), "the slice must hold {:?} values", self.shape());
        let frame = self.frame(&self.convert(image), view, self.size);
        spread(&frame, out, |channel, unit| (unit - self.mean_of(channel)) / self.std_of(channel));
    }

    /// How far a picture of `whole` (`[height, width]`) may be reduced while it is decoded, in eighths of its size: 1, 2 or 4. `None` where
    /// all of it is needed: it is not much larger than the result, or values are not averaged over what is left out.
    pub(crate) fn eighths(&self, whole: [usize; 2]) -> Option<usize> {
        if !self.antialias || self.interpolation == Interpolation::Nearest {
            return None;
        }
        let (region, size) = match self.resize {
            Resize::ShorterSide { crop_pct } => (covering(whole, self.size, crop_pct), self.size),
            Resize::Squash => (Region::whole(whole), self.size),
            Resize::Letterbox { .. } => (Region::whole(whole), inner(whole, self.size)),
        };
        let reduction = (region.height / size[0].max(1) as f64).min(region.width / size[1].max(1) as f64);
        [1, 2, 4].into_iter().find(|&eighths| reduction * eighths as f64 / 8.0 >= PIXELS_KEPT)
    }

    /// The way back: values `[C, H, W]` as a picture of 8 bits, for previews and reports.
    ///
    /// # Panics
    /// When the slice does not hold `C * H * W` values.
    pub fn to_image(&self, values: &[f32]) -> Image {
        let [channels, height, width] = self.shape();
        assert_eq!(values.len(), channels * height * width, "the slice must hold {:?} values", self.shape());
        let plane = height * width;
        let byte = |channel: usize, at: usize| {
            let unit = values[channel * plane + at] * self.std_of(channel) + self.mean_of(channel);
            (unit * 255.0).round().clamp(0.0, 255.0) as u8
        };
        let pixels =
            (0..plane).flat_map(|at| (0..channels).map(move |channel| (channel, at))).map(|(channel, at)| byte(channel, at)).collect();
        Image::trusted(width, height, channels, Pixels::U8(pixels))
    }

    /// A stable text that differs whenever two specifications could give different values.
    pub fn fingerprint(&self) -> String {
        let resize = match self.resize {
            Resize::ShorterSide { crop_pct } => format!("shorter_side({crop_pct:?})"),
            Resize::Squash => "squash".to_string(),
            Resize::Letterbox { fill } => format!("letterbox({fill})"),
        };
        // The number in front changes when the same specification starts to give other values.
        format!(
            "preprocess2;size={}x{};resize={resize};interpolation={:?};antialias={};channels={:?};mean={:?};std={:?};background={:?}",
            self.size[0], self.size[1], self.interpolation, self.antialias, self.channels, self.mean, self.std, self.background
        )
    }

    /// Missing values of an unchecked specification count as none.
    pub(crate) fn mean_of(&self, channel: usize) -> f32 {
        self.mean.get(channel).copied().unwrap_or(0.0)
    }

    pub(crate) fn std_of(&self, channel: usize) -> f32 {
        self.std.get(channel).copied().unwrap_or(1.0)
    }

    /// Colour becomes luma before resizing where grey is wanted (a third of the work); grey stays one channel in any case.
    pub(crate) fn convert<'a>(&self, image: &'a Image) -> Cow<'a, Image> {
        match (self.channels, image.channels()) {
            (ChannelMode::Gray, 3) => Cow::Owned(to_luma(image)),
            _ => Cow::Borrowed(image),
        }
    }

    /// The picture at `[height, width]`, of whatever depth and channels it has.
    pub(crate) fn frame(&self, image: &Image, view: View, size: [usize; 2]) -> Image {
        match self.resize {
            Resize::ShorterSide { crop_pct } => self.fit(image, view.region(covering(view.whole, size, crop_pct)), size),
            Resize::Squash => self.fit(image, view.region(Region::whole(view.whole)), size),
            Resize::Letterbox { fill } => self.letterbox(image, view, size, fill),
        }
    }

    /// A region of the picture at `[height, width]`.
    pub(crate) fn fit(&self, image: &Image, region: Region, size: [usize; 2]) -> Image {
        resize_region(image, region, size, self.interpolation, self.antialias)
    }

    fn letterbox(&self, image: &Image, view: View, size: [usize; 2], fill: u8) -> Image {
        let size = size.map(|side| side.max(1));
        let inner = inner(view.whole, size);
        let small = self.fit(image, view.region(Region::whole(view.whole)), inner);
        if inner == size {
            return small;
        }
        let pixels = match small.pixels() {
            Pixels::U8(values) => Pixels::U8(pad(values, small.channels(), inner, size, fill)),
            Pixels::U16(values) => Pixels::U16(pad(values, small.channels(), inner, size, u16::from(fill) * 257)),
        };
        Image::trusted(size[1], size[0], small.channels(), pixels)
    }
}

/// Pixels of a reduced picture for one of the result, at least, along each side.
const PIXELS_KEPT: f64 = 2.0;

/// The sides of a whole picture fitted into `size`.
fn inner(whole: [usize; 2], size: [usize; 2]) -> [usize; 2] {
    let scale = (size[0] as f64 / whole[0] as f64).min(size[1] as f64 / whole[1] as f64);
    std::array::from_fn(|axis| ((whole[axis] as f64 * scale).round() as usize).clamp(1, size[axis].max(1)))
}

/// The region of the whole picture that the centre crop shows, with torchvision's rounding of sides and offsets.
fn covering(whole: [usize; 2], size: [usize; 2], crop_pct: f32) -> Region {
    let [height, width] = whole.map(|side| side as f64);
    let wanted = size.map(|side| (side as f64 / f64::from(crop_pct)).round().max(side as f64).max(1.0));
    let (scaled_height, scaled_width) = if wanted[1] / width >= wanted[0] / height {
        ((height * wanted[1] / width).floor().max(wanted[0]), wanted[1])
    } else {
        (wanted[0], (width * wanted[0] / height).floor().max(wanted[1]))
    };
    let offset = |scaled: f64, side: usize| ((scaled - side as f64) / 2.0).round_ties_even();
    let (down, across) = (height / scaled_height, width / scaled_width);
    Region {
        left: offset(scaled_width, size[1]) * across,
        top: offset(scaled_height, size[0]) * down,
        width: size[1] as f64 * across,
        height: size[0] as f64 * down,
    }
}

fn pad<T: Copy>(values: &[T], channels: usize, [inner_height, inner_width]: [usize; 2], [height, width]: [usize; 2], fill: T) -> Vec<T> {
    let mut out = vec![fill; height * width * channels];
    let (top, left) = ((height - inner_height) / 2, (width - inner_width) / 2);
    for (row, line) in values.chunks_exact(inner_width * channels).enumerate() {
        let start = ((top + row) * width + left) * channels;
        out[start..start + line.len()].copy_from_slice(line);
    }
    out
}

fn to_luma(image: &Image) -> Image {
    let pixels = match image.pixels() {
        Pixels::U8(values) => Pixels::U8(values.chunks_exact(3).map(|rgb| luma8(rgb[0], rgb[1], rgb[2])).collect()),
        Pixels::U16(values) => Pixels::U16(values.chunks_exact(3).map(|rgb| luma16(rgb[0], rgb[1], rgb[2])).collect()),
    };
    Image::trusted(image.width(), image.height(), 1, pixels)
}

/// Interleaved integers to planes `[C, H, W]` of `map(channel, value in 0..=1)`; one grey channel fills all the planes there are.
pub(crate) fn spread(frame: &Image, out: &mut [f32], map: impl Fn(usize, f32) -> f32) {
    let stride = frame.channels();
    let plane = frame.width() * frame.height();
    let table = |channel: usize| -> [f32; 256] { std::array::from_fn(|value| map(channel, value as f32 / 255.0)) };
    match frame.pixels() {
        // Grey is read once for its three planes.
        Pixels::U8(values) if stride == 1 && out.len() == 3 * plane => {
            let tables = [0, 1, 2].map(table);
            let (red, others) = out.split_at_mut(plane);
            let (green, blue) = others.split_at_mut(plane);
            for (((red, green), blue), &value) in red.iter_mut().zip(green).zip(blue).zip(values) {
                [*red, *green, *blue] = [0, 1, 2].map(|channel: usize| tables[channel][usize::from(value)]);
            }
        }
        Pixels::U8(values) => {
            for (channel, target) in out.chunks_exact_mut(plane).enumerate() {
                let table = table(channel);
                for (to, pixel) in target.iter_mut().zip(values.chunks_exact(stride)) {
                    *to = table[usize::from(pixel[channel % stride])];
                }
            }
        }
        Pixels::U16(values) => {
            for (channel, target) in out.chunks_exact_mut(plane).enumerate() {
                for (to, pixel) in target.iter_mut().zip(values.chunks_exact(stride)) {
                    *to = map(channel, f32::from(pixel[channel % stride]) / 65535.0);
                }
            }
        }
    }
}
