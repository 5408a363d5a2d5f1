"""Evaluation of lists by what users did afterwards: protocol, judging, exposure value, hindsight."""
