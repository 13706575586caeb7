//! What becomes of the bytes of an upload: the image that is kept and a small one, or nothing.
//!
//! Pure computing, for the threads that decode alone. The format is told by the content, never by a name or a
//! header. Dimensions are read before any memory is taken for them; then the whole image is decoded and written anew, so
//! that of what was sent nothing but the pixels stays: no metadata, no trailing bytes, nothing else that it may be as well.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, Limits};

/// The most pixels of an upload.
const MAX_PIXELS: u64 = 40_000_000;
/// The most memory that a decoded upload may take: as many pixels of four bytes.
const MAX_DECODED: u64 = 4 * MAX_PIXELS;
/// More passes over the pixels than any camera or editor writes; each costs as much as a whole image.
const MAX_SCANS: usize = 64;

/// The longer edge of what is kept.
const FULL_EDGE: u32 = 2048;
/// The longer edge of the small one.
const SMALL_EDGE: u32 = 320;
const JPEG_QUALITY: u8 = 85;

/// An image as it will be stored.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Of the files' names: `jpg`, or `png` if something shines through.
    pub(super) extension: &'static str,
    pub(super) full: Vec<u8>,
    pub(super) small: Vec<u8>,
}

/// The bytes are no image that is taken, or more than is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAnImage;

impl From<image::ImageError> for NotAnImage {
    fn from(_: image::ImageError) -> Self {
        Self
    }
}

impl Picture {
    /// Reads an upload.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, NotAnImage> {
        let (image, orientation) = decode(bytes)?;
        let shines_through =
            image.color().has_alpha() && image.pixels().any(|(_, _, pixel)| pixel[3] < u8::MAX);
        let full = shrink(image, FULL_EDGE);
        let mut full =
            if shines_through { full.into_rgba8().into() } else { DynamicImage::from(full.into_rgb8()) };
        full.apply_orientation(orientation);
        let small = shrink(full.clone(), SMALL_EDGE);
        let extension = if shines_through { "png" } else { "jpg" };
        Ok(Self { extension, full: encode(&full)?, small: encode(&small)? })
    }
}

fn decode(bytes: &[u8]) -> Result<(DynamicImage, Orientation), NotAnImage> {
    // Whatever else the library may learn to read, these three are taken.
    let format = image::guess_format(bytes)?;
    if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP) {
        return Err(NotAnImage);
    }
    if format == ImageFormat::Jpeg && !is_whole_jpeg(bytes) {
        return Err(NotAnImage);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED {
        return Err(NotAnImage);
    }
    // A camera that was held upright says so beside the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder)?, orientation))
}

/// Whether a JPEG reaches its end mark, and in a sane number of scans: the decoder fills up what is missing with grey.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let (mut at, mut scans) = (2, 0);
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)) {
        at += found;
        match bytes.get(at + 1) {
            None => return false,
            Some(0xff) => at += 1,
            // Pixels that look like a mark, a mark between pixels, and one without content.
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            Some(0xd9) => return scans > 0,
            Some(mark) => {
                scans += usize::from(*mark == 0xda);
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
        if scans > MAX_SCANS {
            return false;
        }
    }
    false
}

/// The image with its longer edge no longer than that.
fn shrink(image: DynamicImage, edge: u32) -> DynamicImage {
    if image.width().max(image.height()) <= edge {
        image
    } else if image.color().has_alpha() {
        // Averages of colours must not count what cannot be seen.
        let mut image = image.into_rgba8();
        image.pixels_mut().for_each(multiply_by_alpha);
        let mut image = scale(&image.into(), edge).into_rgba8();
        image.pixels_mut().for_each(divide_by_alpha);
        image.into()
    } else {
        scale(&image, edge)
    }
}

fn scale(image: &DynamicImage, edge: u32) -> DynamicImage {
    if image.width().max(image.height()) >= 2 * edge {
        // By averages, which need no memory beside the result's.
        image.thumbnail(edge, edge)
    } else {
        image.resize(edge, edge, FilterType::CatmullRom)
    }
}

fn multiply_by_alpha(pixel: &mut image::Rgba<u8>) {
    let [.., alpha] = pixel.0;
    for colour in &mut pixel.0[..3] {
        *colour = part_of_255(u16::from(*colour) * u16::from(alpha) / 255);
    }
}

fn divide_by_alpha(pixel: &mut image::Rgba<u8>) {
    let [.., alpha] = pixel.0;
    for colour in &mut pixel.0[..3] {
        *colour = if alpha == 0 { 0 } else { part_of_255(u16::from(*colour) * 255 / u16::from(alpha)) };
    }
}

fn part_of_255(value: u16) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn encode(image: &DynamicImage) -> Result<Vec<u8>, NotAnImage> {
    let mut bytes = Vec::new();
    if image.color().has_alpha() {
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    } else {
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
