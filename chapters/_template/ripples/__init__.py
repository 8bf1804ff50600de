"""Chapter 7: how fast ripples fade. A template: copy it and put your own question in its place."""
