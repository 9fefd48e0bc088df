//! Steps are done once, whoever does them.
