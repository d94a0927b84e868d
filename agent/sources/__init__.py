"""Where models come from: one interface, one module a scheme.

`interface` is what a source promises, `hf` is the Hugging Face Hub's protocol, `web` are the
ranged GETs that any source over HTTP shares. A source runs in the fill's child process only.
"""
