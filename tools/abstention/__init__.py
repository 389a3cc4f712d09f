"""When a model file had better not answer: its prediction sets and its input check, measured."""
