"""A labelled suite of small Keras programs, faulty and healthy, and how well they are diagnosed."""
