"""File formats of other libraries: what each can hold, how it is written, and how a file of it is checked."""
