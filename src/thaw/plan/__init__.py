"""The recipe as pure functions: phases, cycles, schedules, image sizes."""
