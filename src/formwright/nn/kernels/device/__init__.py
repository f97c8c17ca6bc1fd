"""What runs on the device: functions in Triton's language, imported only where Triton is."""
