"""Evidence to take away: the found moments as clips, subtitles and edit lists."""
