//! Reconcilers that turn Api objects into statuses and Istio projections.
