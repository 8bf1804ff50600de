"""Figures of chapter 4; they compute nothing."""
