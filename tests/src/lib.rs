//! What several test binaries use: the SQL test runner, a real S3 server, seeded data.

pub mod s3;
pub mod slt;
pub use s3::python;
