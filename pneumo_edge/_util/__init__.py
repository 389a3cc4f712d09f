"""What the other packages share and no user needs: files, records, processes, progress. Private."""
