//! Forms with files, byte by byte as a browser sends them, and pictures to put into them.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use super::Call;

const BOUNDARY: &str = "----a-boundary-of-the-tests";

/// `multipart/form-data` in the making.
#[derive(Clone, Default)]
pub(crate) struct Form(Vec<u8>);

impl Form {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.part(&format!("name=\"{name}\""), "", value.as_bytes())
    }

    /// A file with the name and type that a client would say.
    pub(crate) fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.part(&format!("name=\"{name}\"; filename=\"holiday.jpg\""), "image/jpeg", bytes)
    }

    /// A part with whatever a client may write into its head.
    pub(crate) fn part(mut self, disposition: &str, kind: &str, bytes: &[u8]) -> Self {
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{kind}\r\n");
        self.0.extend_from_slice(head.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    pub(crate) fn put_into(mut self, call: Call) -> Call {
        self.0.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        call.body(&format!("multipart/form-data; boundary={BOUNDARY}"), self.0)
    }
}

/// A picture whose colour tells it from others.
fn picture(width: u32, height: u32, shade: u8) -> DynamicImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([shade, u8::try_from(x % 256).unwrap_or(0), u8::try_from(y % 256).unwrap_or(0)])
    })
    .into()
}

fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).expect("a picture that can be written");
    bytes
}

pub(crate) fn jpeg(width: u32, height: u32, shade: u8) -> Vec<u8> {
    written(&picture(width, height, shade), ImageFormat::Jpeg)
}

pub(crate) fn png(width: u32, height: u32, shade: u8) -> Vec<u8> {
    written(&picture(width, height, shade), ImageFormat::Png)
}
