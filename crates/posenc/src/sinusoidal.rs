//! Sinusoidal position encoding: sines and cosines of geometrically spaced wavelengths, added to the embeddings.
