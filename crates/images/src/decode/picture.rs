//! A decoded picture that knows how it relates to the whole of what the file holds.

use super::{orientation, reduced::Small};
use crate::image::Image;
use crate::resize::Region;

/// A picture decoded for a [`Preprocess`](crate::Preprocess): upright and opaque as any [`Image`], and perhaps at a part of its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    image: Image,
    view: View,
}

/// Where the pixels of an image lie in the whole picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View {
    /// `[height, width]` of the whole, upright.
    pub whole: [usize; 2],
    /// Pixels of the image for one of the whole: 1, 1/2, 1/4 or 1/8.
    scale: f64,
    /// Where the whole begins, `[down, across]`, in pixels of the image.
    origin: [f64; 2],
}

impl Picture {
    pub(super) fn reduced(small: Small) -> Picture {
        let Small { image, whole, eighths, orientation } = small;
        let scale = eighths as f64 / 8.0;
        // The last row and column may cover more than there is.
        let gap = [image.height() as f64 - whole[0] as f64 * scale, image.width() as f64 - whole[1] as f64 * scale];
        let upright = if orientation::transposes(orientation) { [whole[1], whole[0]] } else { whole };
        let view = View { whole: upright, scale, origin: orientation::origin(orientation, gap) };
        Picture { image: orientation::apply(image, orientation), view }
    }

    /// The pixels that were decoded.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// `[height, width]` of the picture in the file, upright; the image may be 1/2, 1/4 or 1/8 of it, rounded up.
    pub fn whole(&self) -> [usize; 2] {
        self.view.whole
    }

    /// Whether the image is smaller than the picture in the file.
    pub fn is_reduced(&self) -> bool {
        self.view.scale < 1.0
    }

    pub(crate) fn view(&self) -> View {
        self.view
    }
}

impl From<Image> for Picture {
    /// A picture at its own size.
    fn from(image: Image) -> Picture {
        let view = View::of(&image);
        Picture { image, view }
    }
}

impl View {
    /// An image that is the whole.
    pub fn of(image: &Image) -> View {
        View { whole: [image.height(), image.width()], scale: 1.0, origin: [0.0; 2] }
    }

    /// A region of the whole, in pixels of the image.
    pub fn region(&self, whole: Region) -> Region {
        Region {
            left: whole.left * self.scale + self.origin[1],
            top: whole.top * self.scale + self.origin[0],
            width: whole.width * self.scale,
            height: whole.height * self.scale,
        }
    }
}
