//! What is taken, what is not, and what is kept of it.

use image::{GrayImage, Rgb, RgbImage, Rgba, RgbaImage};

use super::*;

/// A scene with a red left and a blue right half.
fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(
        width,
        height,
        |x, _| if x < width / 2 { Rgb([220, 30, 20]) } else { Rgb([20, 40, 210]) },
    )
}

fn written(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

fn jpeg(image: impl Into<DynamicImage>) -> Vec<u8> {
    written(image, ImageFormat::Jpeg)
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    written(image, ImageFormat::Png)
}

fn read(bytes: &[u8]) -> DynamicImage {
    image::load_from_memory(bytes).unwrap()
}

fn is_red([red, _, blue]: [u8; 3]) -> bool {
    red > 150 && blue < 100
}

/// A JPEG with a segment put in after its first mark.
fn with_segment(jpeg: &[u8], mark: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, mark], &length, content, &jpeg[2..]].concat()
}

/// The EXIF data of a camera that was held so, and was somewhere.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif.extend(b"GPS 48.2082 N 16.3738 E");
    exif
}

#[test]
fn each_format_is_read_and_written_anew() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let picture = Picture::of(&written(scene(400, 300), format)).unwrap();
        assert_eq!(picture.extension, "jpg", "{format:?}");
        let (full, small) = (read(&picture.full).into_rgb8(), read(&picture.small));
        assert_eq!((full.dimensions(), small.dimensions()), ((400, 300), (320, 240)), "{format:?}");
        assert!(is_red(full.get_pixel(50, 50).0) && !is_red(full.get_pixel(350, 50).0), "{format:?}");
    }
    let grey = Picture::of(&jpeg(GrayImage::new(10, 20))).unwrap();
    assert_eq!(read(&grey.full).dimensions(), (10, 20));
    let deep = DynamicImage::from(scene(30, 30)).into_rgba16();
    assert_eq!(Picture::of(&png(deep)).unwrap().extension, "jpg");
}

#[test]
fn what_shines_through_stays_so_and_its_edges_take_no_colour_from_nothing() {
    // White on a black that cannot be seen.
    let image = RgbaImage::from_fn(4000, 400, |x, _| if x % 4 < 2 { Rgba([255; 4]) } else { Rgba([0; 4]) });
    let picture = Picture::of(&png(image)).unwrap();
    assert_eq!(picture.extension, "png");
    assert_eq!(read(&picture.full).dimensions(), (2048, 205));
    for bytes in [&picture.full, &picture.small] {
        let image = read(bytes).into_rgba8();
        let seen = image.pixels().filter(|pixel| pixel[3] > 30);
        assert!(seen.clone().count() > 1000);
        assert!(seen.clone().all(|pixel| pixel[0] > 230), "grey edges");
    }
    let opaque = RgbaImage::from_pixel(8, 8, Rgba([1, 2, 3, 255]));
    assert_eq!(Picture::of(&png(opaque)).unwrap().extension, "jpg");
}

#[test]
fn large_ones_are_scaled_down_in_proportion() {
    for (width, height, expected) in
        [(3000, 1500, (2048, 1024)), (4100, 100, (2048, 50)), (2048, 2, (2048, 2))]
    {
        let picture = Picture::of(&jpeg(scene(width, height))).unwrap();
        assert_eq!(read(&picture.full).dimensions(), expected);
    }
}

#[test]
fn the_camera_is_turned_upright_and_what_it_wrote_beside_the_pixels_is_gone() {
    let upright = with_segment(&jpeg(scene(80, 40)), 0xe1, &exif(6));
    let upright = with_segment(&upright, 0xfe, b"a comment with <script>");
    let picture = Picture::of(&upright).unwrap();
    let full = read(&picture.full).into_rgb8();
    assert_eq!(full.dimensions(), (40, 80));
    assert!(is_red(full.get_pixel(20, 10).0) && !is_red(full.get_pixel(20, 70).0));
    for word in [&b"Exif"[..], b"GPS", b"script"] {
        assert!(!picture.full.windows(word.len()).any(|found| found == word));
    }
}

#[test]
fn what_else_a_file_is_does_not_survive() {
    let zip = b"PK\x03\x04 and a page: <html><script>alert(1)</script>";
    let polyglot = [&jpeg(scene(20, 20))[..], zip].concat();
    let picture = Picture::of(&polyglot).unwrap();
    assert!(!picture.full.windows(4).any(|found| found == b"PK\x03\x04"));
    // The other way round it begins as no image.
    assert_eq!(Picture::of(&[&zip[..], &jpeg(scene(20, 20))].concat()).unwrap_err(), NotAnImage);
}

#[test]
fn what_is_cut_off_is_refused() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = written(scene(200, 200), format);
        for length in [0, 1, 4, 12, 40, whole.len() / 2, whole.len() * 9 / 10] {
            let outcome = Picture::of(&whole[..length]);
            assert!(outcome.is_err(), "{format:?}, {length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn a_preview_within_does_not_stand_for_the_end() {
    // As cameras do, a whole JPEG stands in the metadata; the picture around it is cut off.
    let preview = [&exif(1)[..], &jpeg(scene(16, 16))].concat();
    let whole = with_segment(&jpeg(scene(200, 200)), 0xe1, &preview);
    assert!(Picture::of(&whole).is_ok());
    assert!(Picture::of(&whole[..whole.len() - 40]).is_err());
}

#[test]
fn an_image_of_a_thousand_passes_is_refused_unread() {
    let whole = jpeg(scene(16, 16));
    let scan = whole.windows(2).position(|mark| mark == [0xff, 0xda]).unwrap();
    let (head, pixels) = (&whole[..scan], &whole[scan..whole.len() - 2]);
    let many = [head, &pixels.repeat(1000), &[0xff, 0xd9]].concat();
    assert!(!is_whole_jpeg(&many) && is_whole_jpeg(&whole));
    assert_eq!(Picture::of(&many).unwrap_err(), NotAnImage);
}

#[test]
fn dimensions_are_judged_before_the_pixels() {
    let mut huge = png(scene(10, 10));
    // The header of another image: its sum is wrong, but even a right one would not help.
    huge[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    assert_eq!(Picture::of(&huge).unwrap_err(), NotAnImage);
    let long = jpeg(scene(60_000, 1));
    assert_eq!(read(&Picture::of(&long).unwrap().full).dimensions(), (2048, 1));
}

#[test]
fn other_kinds_of_files_are_refused() {
    for bytes in [
        &b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"[..],
        b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\0\0\0\0\x04\0\0\0",
        b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>",
        b"<?xml version=\"1.0\"?><svg/>",
        b"II*\0\x08\0\0\0",
        b"%PDF-1.4",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xd9",
        b"RIFF\x04\0\0\0WEBP",
    ] {
        assert_eq!(Picture::of(bytes).unwrap_err(), NotAnImage, "{:?}", String::from_utf8_lossy(bytes));
    }
}
