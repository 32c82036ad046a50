//! JSON: everything, in the order of the types, and safe to print on a terminal.

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;
use stopcode_base::visible;
use stopcode_case::Report;

/// The JSON Schema (draft 2020-12) of what [`crate::Format::Json`] writes.
///
/// Made from the types. `schema/report.schema.json` holds the same; a test keeps them equal.
pub fn schema() -> serde_json::Value {
    schemars::generate::SchemaSettings::draft2020_12()
        // What is written, not what could be read: a field that may be null is still always there.
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Report>()
        .to_value()
}

pub(crate) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    report.serialize(&mut Serializer::with_formatter(&mut *out, Careful(PrettyFormatter::new())))?;
    out.write_all(b"\n")
}

/// Pretty, and with every character that a terminal or a bidi renderer would act on as `\uXXXX`.
///
/// JSON demands that only of the first 32 code points. The data stay what they are: a reader decodes them back.
struct Careful<'a>(PrettyFormatter<'a>);

impl Formatter for Careful<'_> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\x7f') {
            return writer.write_all(fragment.as_bytes());
        }
        let mut bytes = [0; 4];
        for character in fragment.chars() {
            let text = character.encode_utf8(&mut bytes);
            if visible(text) == *text {
                writer.write_all(text.as_bytes())?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}
