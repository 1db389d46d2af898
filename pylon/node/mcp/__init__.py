"""`pylon mcp`: the RLM as tools for programs that speak the Model Context Protocol."""
