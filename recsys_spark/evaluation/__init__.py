"""What lists were worth: protocol, judging, exposure value, hindsight."""
