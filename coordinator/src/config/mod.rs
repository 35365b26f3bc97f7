//! Settings: flag > environment > file > default; one section per file.

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {}
