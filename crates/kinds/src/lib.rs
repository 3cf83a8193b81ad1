//! Kubernetes kinds the product reads or writes: types, defaults, validation, CRD manifests.
#![warn(missing_docs)]
