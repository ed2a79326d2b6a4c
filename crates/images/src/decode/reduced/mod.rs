//! JPEG at 1/8, 1/4 or 1/2 of its size: each block of 8 × 8 pixels becomes one of 1, 2 or 4, out of its low frequencies.
//!
//! Most of the time of decoding a large photograph goes into coefficients that the reduced picture does not need; here they are passed over
//! several at a time. Only ordinary files are read (8 bits, grey or YCbCr, Huffman codes, whole to the end marker); for any other the answer is
//! `None`, and the full decoder decides what it is or what is wrong with it.

mod bits;
mod frame;
mod huffman;
mod inverse;
mod scan;

use std::sync::LazyLock;

use ::image::metadata::Orientation;
use frame::Frame;
use huffman::Huffman;
use inverse::Basis;
use scan::{Part, Scan};

use super::DecodeOptions;
use super::jpeg::MOST_SCANS;
use crate::image::Image;

static BASIS: LazyLock<Basis> = LazyLock::new(Basis::new);

/// A picture at a part of its size, not yet turned upright.
pub(super) struct Small {
    pub image: Image,
    /// `[height, width]` of the whole picture.
    pub whole: [usize; 2],
    /// The size as eighths of the whole: 1, 2 or 4.
    pub eighths: usize,
    pub orientation: Orientation,
}

/// The size of a picture that is told to `choose`: upright `[height, width]`.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions, choose: &dyn Fn([usize; 2]) -> Option<usize>) -> Option<Small> {
    let mut file = File::new(bytes, options, choose);
    let mut at = 2;
    loop {
        let start = bytes.get(at..)?.iter().take_while(|&&byte| byte == 0xff).count();
        let marker = *bytes.get(at + start).filter(|_| start > 0)?;
        at += start + 1;
        if marker == 0xd9 {
            return file.finish();
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let segment = bytes.get(at + 2..at + length)?;
        at += length;
        match marker {
            0xc0..=0xc2 if file.frame.is_none() => file.begin(Frame::parse(segment, marker == 0xc2)?)?,
            0xc4 => file.huffman(segment)?,
            0xdb => file.quantisation(segment)?,
            0xdd => file.restart = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
            0xda => at = file.scan(segment, at)?,
            // What is said about the picture must be known before its size is chosen.
            0xe1 if segment.starts_with(b"Exif\0\0") => {
                file.orientation = Orientation::from_exif_chunk(&segment[6..]);
                file.frame.is_none().then_some(())?;
            }
            0xee if segment.starts_with(b"Adobe") => {
                file.ycbcr = *segment.get(11)? == 1;
                file.frame.is_none().then_some(())?;
            }
            0xe0..=0xef | 0xfe => {}
            _ => return None,
        }
    }
}

/// What the segments have said so far.
struct File<'a> {
    bytes: &'a [u8],
    options: &'a DecodeOptions,
    choose: &'a dyn Fn([usize; 2]) -> Option<usize>,
    frame: Option<Frame>,
    /// Eighths, once chosen.
    eighths: usize,
    /// Direct and alternating current.
    codes: [[Option<Huffman>; 4]; 2],
    tables: [Option<[f32; 64]>; 4],
    restart: usize,
    orientation: Option<Orientation>,
    ycbcr: bool,
    scans: usize,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8], options: &'a DecodeOptions, choose: &'a dyn Fn([usize; 2]) -> Option<usize>) -> Self {
        File {
            bytes,
            options,
            choose,
            frame: None,
            eighths: 0,
            codes: Default::default(),
            tables: [None; 4],
            restart: 0,
            orientation: None,
            ycbcr: true,
            scans: 0,
        }
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((head, rest)) = segment.split_at_checked(17) {
            let counts: &[u8; 16] = head[1..].try_into().ok()?;
            let (symbols, rest) = rest.split_at_checked(counts.iter().map(|&count| usize::from(count)).sum())?;
            let slot = self.codes.get_mut(usize::from(head[0] >> 4))?.get_mut(usize::from(head[0] & 15))?;
            *slot = Some(Huffman::new(counts, symbols)?);
            segment = rest;
        }
        segment.is_empty().then_some(())
    }

    fn quantisation(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let wide = match head >> 4 {
                0 => 1,
                1 => 2,
                _ => return None,
            };
            let (values, rest) = rest.split_at_checked(64 * wide)?;
            let mut table = [0f32; 64];
            for (to, value) in table.iter_mut().zip(values.chunks_exact(wide)) {
                *to = value.iter().fold(0.0, |sum, &byte| sum * 256.0 + f32::from(byte));
            }
            *self.tables.get_mut(usize::from(head & 15))? = Some(table);
            segment = rest;
        }
        Some(())
    }

    /// Decides how far to reduce.
    fn begin(&mut self, mut frame: Frame) -> Option<()> {
        let letters = frame.components.len() == 3 && frame.components.iter().map(|c| c.id).eq(*b"RGB");
        if !self.ycbcr || letters {
            return None;
        }
        let turned = self.orientation.is_some_and(super::orientation::transposes);
        let upright = if turned { [frame.width, frame.height] } else { [frame.height, frame.width] };
        self.eighths = (self.choose)(upright)?;
        // The same bound as for the whole picture, so that what is refused does not depend on the model.
        self.options.limits.check_size(frame.width as u32, frame.height as u32, 9).ok()?;
        frame.prepare(self.eighths)?;
        self.frame = Some(frame);
        Some(())
    }

    /// Reads a scan and returns the position of the marker behind it.
    fn scan(&mut self, header: &[u8], at: usize) -> Option<usize> {
        self.scans += 1;
        let frame = self.frame.as_mut()?;
        let (&count, rest) = header.split_first()?;
        let (chosen, rest) = rest.split_at_checked(usize::from(count) * 2)?;
        let &[first, last, approximation] = rest else { return None };
        if self.scans > MOST_SCANS || chosen.is_empty() || last > 63 || first > last || (first > 0 && count > 1) || approximation & 15 > 13
        {
            return None;
        }
        for pair in chosen.chunks_exact(2).filter(|_| !frame.progressive) {
            self.codes[1].get_mut(usize::from(pair[1] & 15))?.as_mut()?.prepare_leaps();
        }
        let mut parts: Vec<Part> = Vec::new();
        for pair in chosen.chunks_exact(2) {
            let component = frame.components.iter().position(|c| c.id == pair[0])?;
            if parts.iter().any(|part| part.component == component) {
                return None;
            }
            let code = |kind: usize, number: u8| self.codes[kind].get(usize::from(number)).and_then(Option::as_ref);
            let quantisation = self.tables[frame.components[component].table].as_ref()?;
            parts.push(Part { component, dc: code(0, pair[1] >> 4), ac: code(1, pair[1] & 15), quantisation });
        }
        for part in &parts {
            let component = &mut frame.components[part.component];
            // A band without its direct current, or a sequential component twice, is no ordinary file.
            if component.scanned == (!frame.progressive || (first == 0 && approximation >> 4 == 0)) {
                return None;
            }
            component.scanned = true;
        }
        // Where no alternating current is needed its scans are passed over; a later scan of a band builds on all earlier ones.
        if frame.progressive && first > 0 && frame.components[parts[0].component].last == 0 {
            return next_marker(self.bytes, at);
        }
        let band = [usize::from(first), usize::from(last)];
        let approximation = [u32::from(approximation >> 4), u32::from(approximation & 15)];
        Scan { parts, band, approximation, restart: self.restart }.decode(frame, &BASIS, self.bytes, at)
    }

    fn finish(mut self) -> Option<Small> {
        let mut frame = self.frame.take()?;
        if !frame.components.iter().all(|component| component.scanned) {
            return None;
        }
        if frame.progressive {
            frame.finish(&BASIS, &self.tables)?;
        }
        let side = |whole: usize| (whole * self.eighths).div_ceil(8);
        let (height, width) = (side(frame.height), side(frame.width));
        let (channels, pixels) = frame.picture(height, width);
        Some(Small {
            image: Image::trusted(width, height, channels, pixels),
            whole: [frame.height, frame.width],
            eighths: self.eighths,
            orientation: self.orientation.unwrap_or(Orientation::NoTransforms),
        })
    }
}

/// The position of the marker that ends the scan data at `at`.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(0xff, bytes.get(at..)?)?;
        match bytes.get(at + 1)? {
            0 | 0xd0..=0xd7 => at += 2,
            _ => return Some(at),
        }
    }
}
