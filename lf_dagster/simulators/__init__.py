"""Stand-ins for Langfuse, Mixpanel and PostHog that follow their contracts; for the demo, tests and benchmarks."""
