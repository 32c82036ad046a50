//! stopcode-synth
