from formwright.cli import main

main()
