//! COPY data (manual, "COPY", "File Formats"): text, CSV and binary, to and from rows.

pub mod decode;
pub mod encode;
