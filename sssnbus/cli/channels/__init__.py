"""Commands on channels where each message goes to every subscriber."""
