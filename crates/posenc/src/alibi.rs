//! ALiBi: a penalty on attention scores that grows linearly with the distance.
