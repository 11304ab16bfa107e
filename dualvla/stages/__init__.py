"""Pipeline stages, one module each: read params, call the library, write the outputs."""
