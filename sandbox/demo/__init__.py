"""`make demo`: the main job on one machine, told step by step."""
