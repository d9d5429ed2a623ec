"""The cryptography of FinSecure: pure functions and states, without input, output or clocks."""
