"""From a picture's bytes to other bytes: transforms, the visible mark, the AI label.

Pure: files in, files out. Refuses to know storage, jobs and money. Pillow is imported only where
pixels are touched.
"""
